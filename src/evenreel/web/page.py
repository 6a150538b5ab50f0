"""The page itself, in gradio: a form, the queue, and what became of each job. All it knows it reads from jobs."""

import html
import os
import shlex
import shutil
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr

from evenreel.errors import EvenreelError
from evenreel.jobs.job import PREVIEW, Job, find
from evenreel.settings import EditSettings
from evenreel.settings.words import words
from evenreel.web import form, painting, sample
from evenreel.web.pictures import pictures_of
from evenreel.web.queue import Queue, page_jobs, waiting

FONT = ("system-ui", "sans-serif")
MONO = ("ui-monospace", "monospace")
CSS = """
.gradio-container {max-width: 1280px !important; margin: auto}
#news {font-variant-numeric: tabular-nums}
#news progress {width: 100%; height: 1rem}
footer {display: none !important}
@media (max-width: 760px) {
  #columns {flex-direction: column !important; flex-wrap: nowrap !important}
  #columns > * {min-width: 0 !important; width: 100% !important; max-width: 100% !important; flex: none !important}
  #columns > * > * {max-width: calc(100vw - 4rem) !important; min-width: 0 !important}
}
"""
COLUMNS = ("job", "status", "result", "prompt")


def page(queue: Queue) -> gr.Blocks:
    """Return the page on top of a queue."""
    with gr.Blocks(title="evenreel", analytics_enabled=False) as blocks:
        shown = gr.State("")
        gr.Markdown("# evenreel\nSay what a clip should show; motion, sound and timing stay.")
        with gr.Row(elem_id="columns"):
            with gr.Column(scale=2, min_width=320):
                clip = gr.Video(label="Clip", sources=["upload"], elem_id="clip", height=280)
                with gr.Accordion("Edit a part only: paint it on a frame", open=False, elem_id="part"):
                    gr.Markdown(
                        "What is not painted stays the source. Without paint, all may change. "
                        "What is painted is followed along the clip; with no frame's number it stays in its place."
                    )
                    mask_frame = gr.Number(
                        label="Frame that is painted, from 0",
                        value=0,
                        precision=0,
                        minimum=0,
                        elem_id="mask_frame",
                    )
                    brush = gr.Brush(colors=[("#ffffff", 0.7)], color_mode="fixed")
                    canvas = gr.ImageEditor(
                        label="Painting",
                        show_label=False,
                        elem_id="canvas",
                        sources=(),
                        transforms=(),
                        layers=False,
                        brush=brush,
                        image_mode="RGBA",
                        format="png",
                    )
                    remove = gr.Checkbox(
                        label="Remove what is painted, with what other frames show there; needs no prompt",
                        value=False,
                        elem_id="remove",
                    )
                    mask_words = gr.Textbox(
                        label="Or say what it is, in place of paint",
                        placeholder="the dog",
                        info="Needs the folder of a CLIPSeg, under More.",
                        elem_id="mask_words",
                    )
                    region_prompt = gr.Textbox(
                        label="Or let what is painted show something of its own",
                        placeholder="a red circle rolling over sand",
                        info="All else shows what the prompt says; the paint stays in its place. If masks of other "
                        "places are named under More, write their prompts first, a line each, and this one last.",
                        lines=2,
                        elem_id="region_prompt",
                    )
                part = {"mask_frame": mask_frame, "remove": remove, "mask_words": mask_words}
                fields = _fields({**part, "region_prompt": region_prompt})
                with gr.Row():
                    edit = gr.Button("Edit", variant="primary", elem_id="edit")
                    try_sample = gr.Button("Try the sample", elem_id="sample")
            with gr.Column(scale=3, min_width=320):
                news = gr.HTML(elem_id="news")
                preview = gr.Image(
                    label="How it looks so far",
                    visible=False,
                    interactive=False,
                    height=200,
                    elem_id="preview",
                )
                with gr.Column(visible=False) as done:
                    result = gr.Video(label="Edited clip", interactive=False, elem_id="result", height=300)
                    file = gr.DownloadButton("Download", elem_id="download")
                    slider = gr.ImageSlider(label="Before and after", interactive=False, elem_id="slider")
                    strip = gr.Image(label="Film strip", show_label=False, interactive=False, elem_id="strip")
                    figures = gr.Dataframe(
                        headers=["figure", "value"],
                        label="Figures",
                        interactive=False,
                        column_widths=["66%", "34%"],
                        wrap=True,
                    )
                command = gr.Textbox(
                    label="The command line that does the same",
                    interactive=False,
                    lines=2,
                    buttons=["copy"],
                    elem_id="command",
                )
                with gr.Row():
                    cancel = gr.Button("Cancel", elem_id="cancel")
                    again = gr.Button("Use these settings again", elem_id="again")
                jobs = gr.Dataframe(
                    headers=list(COLUMNS),
                    label="Jobs, the newest first",
                    interactive=False,
                    elem_id="jobs",
                    column_widths=["22%", "25%", "27%", "26%"],
                    wrap=True,
                )
        timer = gr.Timer(1.0)
        values = list(fields.values())
        outputs = [news, preview, done, result, file, slider, strip, figures, command, jobs]
        watched = [shown, gr.State("")]
        tick: dict[str, Any] = {
            "inputs": watched,
            "outputs": [watched[1], *outputs],
            "show_progress": "hidden",
        }

        def submit(path: str | None, drawn: dict[str, Any] | None, *told: Any) -> str:
            if not path:
                raise gr.Error("Choose a clip first, or try the sample.")
            with _said():
                mask = painting.painted(drawn)
                settings = form.settings_of(told, mask)
                return queue.submit(Path(path), settings).name

        def show_frame(path: str | None, frame: float | None) -> dict[str, Any] | None:
            with _said():
                return painting.canvas_of(path, None if frame is None else int(frame))

        def submit_sample() -> tuple[Any, ...]:
            with _said():
                path = sample.sample_clip()
                source, prompt = sample.prompts()
                settings = EditSettings(prompt=prompt, source_prompt=source)
                name = queue.submit(path, settings).name
            return name, str(path), *form.values_of(settings)

        def choose(event: gr.SelectData) -> str:
            return str(event.row_value[0])

        def stop(name: str) -> None:
            with _said():
                queue.cancel(find(name))

        def use_again(name: str) -> tuple[Any, ...]:
            with _said():
                task = find(name).state.task
                return task.source, *form.values_of(EditSettings.from_json(task.settings))

        gr.on([edit.click, fields["prompt"].submit], submit, [clip, canvas, *values], shown).then(
            _tick, **tick
        )
        try_sample.click(submit_sample, None, [shown, clip, *values]).then(_tick, **tick)
        jobs.select(choose, None, shown).then(_tick, **tick)
        cancel.click(stop, shown, None).then(_tick, **tick)
        again.click(use_again, shown, [clip, *values])
        gr.on([clip.change, mask_frame.change], show_frame, [clip, mask_frame], canvas)
        timer.tick(_tick, **tick)
        blocks.load(_newest, None, shown).then(_tick, **tick)
    return blocks


def _fields(part: dict[str, Any]) -> dict[str, Any]:
    """The fields of the form by name; `part` has those that stand beside the painting."""
    start, made = form.start(), dict(part)

    def text(name: str, label: str, **more: Any) -> None:
        made[name] = gr.Textbox(label=label, value=start[name], elem_id=name, **more)

    text(
        "prompt",
        "Prompt: what it should show",
        lines=2,
        max_lines=4,
        placeholder="a blue star rolling over snow",
    )
    text("source_prompt", "What the clip shows now", placeholder="a red circle rolling over grass")
    preset = gr.Radio(list(form.PRESETS), value="as usual", label="Preset", elem_id="preset")
    made["strength"] = gr.Slider(
        0, 1, value=1, step=0.05, label="Strength", info="0 leaves the source", elem_id="strength"
    )
    text("frames", "Trim: frames, START:END", placeholder="0:16")
    with gr.Accordion("More", open=False):
        text("negative_prompt", "What it must not show")
        made["steps"] = gr.Number(
            label="Steps",
            value=None,
            placeholder="as is best for the model",
            precision=0,
            minimum=0,
            maximum=1000,
        )
        made["prompt_glide"] = gr.Number(label="Glide, in frames", value=0, precision=0, minimum=0)
        text("model", "Model", info=form.described("model"))
        made["host"] = gr.Dropdown(form.hosts(), value=start["host"], label="Host")
        made["inversion"] = gr.Dropdown(form.inversions(), value=start["inversion"], label="Inversion")
        made["guidance_scale"] = gr.Number(
            label="Guidance", value=None, placeholder="as is best for the model", minimum=0, maximum=100
        )
        made["seed"] = gr.Number(label="Seed", value=0, precision=0, minimum=0)
        text("size", "Size, SIDE or WxH", placeholder="the model's own")
        text("motion", "Motion modules")
        text("adapter", "Adapter file")
        text("control", "ControlNet")
        made["control_kind"] = gr.Dropdown(
            list(form.KINDS), value="canny", label="ControlNet sees", elem_id="control_kind"
        )
        text("control_clip", "Clip of the ControlNet", placeholder="the source")
        text("depth_model", "Depth Anything that makes depth for it, a folder", placeholder="none")
        text("pose_model", "ViTPose that makes poses for it, a folder", placeholder="none")
        text(
            "person_detector",
            "RT-DETR that tells the ViTPose where people are, a folder",
            placeholder="none: the whole frame",
        )
        text(
            "mask", "Mask: a clip or an image, white is edited", placeholder="what is painted, if anything is"
        )
        text(
            "mask_model", "SAM 2 that follows what is painted, a folder", placeholder="none: along the motion"
        )
        text("mask_words_model", "CLIPSeg that finds what words say, a folder", placeholder="none")
        text("region", "Masks of places with prompts of their own, a line each", placeholder="none", lines=2)
        made["batch"] = gr.Number(label="Frames together", value=8, precision=0, minimum=1)
    preset.change(lambda name: form.PRESETS[name], preset, made["steps"])
    return {name: made[name] for name in form.NAMES}


class _said:  # noqa: N801 - used as a context manager is spelled
    """Shows errors that the user can mend as the page shows errors."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, EvenreelError):
            raise gr.Error(
                html.escape(error.spelled(lambda name: name.replace("_", " "))), title=""
            ) from error


def _newest() -> str:
    found = page_jobs()
    return found[0].name if found else ""


def _tick(name: str, seen: str) -> tuple[Any, ...]:
    """What the page shows of a job; parts that are as they were are left alone."""
    rows = [_row(job) for job in page_jobs()[:50]]
    jobs = [job for job in page_jobs() if job.name == name]
    if not jobs:
        return "", "<p>No job is chosen.</p>", *(gr.skip(),) * 7, "", rows
    job = jobs[0]
    told = gr.update(value=_news(job))
    preview = job.folder / PREVIEW
    picture = gr.update(visible=False)
    if job.status == "running" and preview.is_file():
        picture = gr.update(value=str(preview), visible=True)
    output, status = Path(job.state.task.output), job.status
    now = f"{name} {status} {job.state.touched if status == 'done' else ''}"
    if now == seen:
        return seen, told, picture, *(gr.skip(),) * 7, rows
    line = command_line(job)
    if job.status != "done" or not output.is_file():
        return now, told, picture, gr.update(visible=False), *(gr.skip(),) * 5, line, rows
    made = pictures_of(job)
    return (
        now,
        told,
        picture,
        gr.update(visible=True),
        str(output),
        str(output),
        (str(made.before), str(made.after)),
        str(made.strip),
        [[figure, value] for figure, value in made.figures],
        line,
        rows,
    )


def _news(job: Job) -> str:
    state, status = job.state, job.status
    said = html.escape(f"{Path(state.task.output).name}: {status}")
    if status in ("waiting", "stopped"):
        position = (
            [one.name for one in waiting()].index(job.name) + 1
            if job.name in [w.name for w in waiting()]
            else 1
        )
        return f"<p role='status'>{said}, number {position} in the queue</p>"
    if status == "failed":
        return f"<p role='alert'>{said}. {html.escape(state.error or '')}</p>"
    if status == "running":
        of = "" if state.total is None else f" of {state.total}"
        bar = f"<progress value='{state.done}' max='{state.total or 1}'></progress>"
        return f"<p role='status'>{said}, {html.escape(state.stage)} {state.done}{of}</p>{bar}"
    return f"<p role='status'>{said} in {sum(state.seconds.values()):.1f} s</p>"


def _row(job: Job) -> list[str]:
    prompt = str(job.state.task.settings.get("prompt", ""))
    return [job.name, job.status, Path(job.state.task.output).name, prompt[:60]]


def command_line(job: Job) -> str:
    """Return the command that makes the same as a job."""
    task = job.state.task
    settings = EditSettings.from_json(task.settings)
    name = Path(task.source).name
    return shlex.join(["evenreel", "edit", name, *words(settings), "-o", Path(task.output).name])


def room_for_uploads() -> Path:
    """Return the folder that gradio may put uploads in, empty."""
    from evenreel.web.queue import folder

    path = folder() / "uploads"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True, exist_ok=True)
    return path
