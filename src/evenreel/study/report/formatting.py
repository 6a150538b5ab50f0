"""How figures are shown."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FigureText:
    """How a figure is shown."""

    label: str
    scale: int | float
    better: str
    """`more`, `less`, or `neither` where more is not better by itself."""


FIGURES = {
    "asked": FigureText("edit success, %", 100, "more"),
    "kept": FigureText("rest kept, %", 100, "more"),
    "truth_psnr": FigureText("truth PSNR, dB", 1, "more"),
    "truth_ssim": FigureText("truth SSIM", 1, "more"),
    "object_truth_psnr": FigureText("object's truth PSNR, dB", 1, "more"),
    "ring_truth_psnr": FigureText("ring's truth PSNR, dB", 1, "more"),
    "rest_truth_psnr": FigureText("rest's truth PSNR, dB", 1, "more"),
    "foreground_truth_psnr": FigureText("foreground truth PSNR, dB", 1, "more"),
    "background_psnr": FigureText("background PSNR, dB", 1, "more"),
    "background_ssim": FigureText("background SSIM", 1, "more"),
    "source_psnr": FigureText("source PSNR, dB", 1, "neither"),
    "warp_error": FigureText("warp error, 1e-3", 1e3, "less"),
    "object_motion_iou": FigureText("object's IoU along its motion", 1, "more"),
    "object_warp_error": FigureText("object's warp error, 1e-3", 1e3, "less"),
    "ring_warp_error": FigureText("ring's warp error, 1e-3", 1e3, "less"),
    "rest_warp_error": FigureText("rest's warp error, 1e-3", 1e3, "less"),
    "sharpness_ratio": FigureText("sharpness, 1 is right", 1, "neither"),
    "saturation_ratio": FigureText("saturation, 1 is right", 1, "neither"),
    "foreground_warp_error": FigureText("foreground warp error, 1e-3", 1e3, "less"),
    "background_warp_error": FigureText("background warp error, 1e-3", 1e3, "less"),
    "warp_ssim": FigureText("warp SSIM", 1, "more"),
    "flicker": FigureText("flicker, 1e-3", 1e3, "less"),
    "clip_t": FigureText("CLIP-T", 1, "more"),
    "foreground_clip_t": FigureText("foreground CLIP-T", 1, "more"),
    "clip_f": FigureText("CLIP-F", 1, "more"),
    "clip_dir": FigureText("CLIP-dir", 1, "more"),
    "frechet_clip": FigureText("Frechet (CLIP)", 1, "neither"),
    "kid_clip": FigureText("kernel distance (CLIP)", 1, "neither"),
    "s_edit": FigureText("S_edit", 1, "more"),
    "q_edit": FigureText("Q_edit", 1, "more"),
    "similarity": FigureText("likeness of neighbouring latents", 1, "neither"),
    "map_change_981": FigureText("change of the map at t = 981, %", 100, "less"),
    "map_change_541": FigureText("change of the map at t = 541, %", 100, "less"),
    "map_change_1": FigureText("change of the map at t = 1, %", 100, "less"),
    "map_change_932": FigureText("change of the maps at t = 932, %", 100, "less"),
    "map_change_941": FigureText("change of the maps at t = 941, %", 100, "less"),
    "temporal_first": FigureText("temporal loss, first tenth", 1, "less"),
    "temporal_last": FigureText("temporal loss, last tenth", 1, "less"),
}
"""By name, in the order in which tables show them."""
