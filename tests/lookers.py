"""Tiny networks with random weights in the places of those that look at clips: depth, poses, captions, masks, words."""

from pathlib import Path

import torch
from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    LlamaConfig,
    LlamaForCausalLM,
    RTDetrConfig,
    RTDetrForObjectDetection,
    Sam2VideoConfig,
    Sam2VideoModel,
    VitPoseConfig,
    VitPoseForPoseEstimation,
)

from tiny import tiny_tokenizer

TOWER = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}


def save_depth(folder: Path, *, seed: int = 0, kind: str = "relative") -> Path:
    """A Depth Anything for pictures of 28 pixels."""
    torch.manual_seed(seed)
    seen = {
        "model_type": "dinov2",
        "image_size": 28,
        "patch_size": 14,
        "hidden_size": 16,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "out_indices": [1, 2, 3, 4],
        "apply_layernorm": True,
        "reshape_hidden_states": False,
    }
    config = DepthAnythingConfig(
        backbone_config=seen,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[4, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=4,
        depth_estimation_type=kind,
        max_depth=20,
    )
    model = DepthAnythingForDepthEstimation(config)
    with torch.no_grad():  # the last layer's bias, so that its rectifier lets something through
        for weight in model.head.parameters():
            weight.abs_()
    model.eval().save_pretrained(folder)
    return folder


def save_poses(folder: Path, *, seed: int = 0, joints: int = 17) -> Path:
    """A ViTPose for pictures of 64 x 48 pixels."""
    torch.manual_seed(seed)
    seen = {
        "model_type": "vitpose_backbone",
        "image_size": [64, 48],
        "patch_size": [16, 16],
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "out_indices": [2],
    }
    config = VitPoseConfig(backbone_config=seen, num_labels=joints)
    model = VitPoseForPoseEstimation(config)
    with torch.no_grad():
        model.head.conv.weight.mul_(50)  # heat maps that vary
        model.head.conv.bias.fill_(0.5)
    model.eval().save_pretrained(folder)
    return folder


def save_detector(
    folder: Path, *, seed: int = 0, names: tuple[str, ...] = ("person", "dog"), sure: float = 2.0
) -> Path:
    """An RT-DETR with one block a stage, which sees people everywhere, or with a low `sure` nobody."""
    torch.manual_seed(seed)
    seen = {
        "model_type": "rt_detr_resnet",
        "embedding_size": 8,
        "hidden_sizes": [8, 8, 8, 8],
        "depths": [1, 1, 1, 1],
        "out_features": ["stage2", "stage3", "stage4"],
        "layer_type": "basic",
    }
    config = RTDetrConfig(
        backbone_config=seen,
        encoder_hidden_dim=16,
        encoder_in_channels=[8, 8, 8],
        encoder_layers=1,
        encoder_ffn_dim=16,
        encoder_attention_heads=2,
        d_model=16,
        num_queries=5,
        decoder_in_channels=[16, 16, 16],
        decoder_ffn_dim=16,
        decoder_layers=1,
        decoder_attention_heads=2,
        num_denoising=0,
        id2label=dict(enumerate(names)),
    )
    model = RTDetrForObjectDetection(config)
    with torch.no_grad():
        for layer in model.model.decoder.class_embed:
            layer.bias.fill_(sure)
    model.eval().save_pretrained(folder)
    return folder


def save_captioner(folder: Path, *, seed: int = 0) -> Path:
    """A BLIP for pictures of 32 pixels, with the tests' tokenizer, which writes nonsense."""
    torch.manual_seed(seed)
    words = tiny_tokenizer()
    marks = {
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
    }
    config = BlipConfig(
        text_config={
            **TOWER,
            **marks,
            "vocab_size": len(words),
            "num_hidden_layers": 1,
            "encoder_hidden_size": 16,
            "sep_token_id": words.eos_token_id,
        },
        vision_config={**TOWER, "num_hidden_layers": 1, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    model = BlipForConditionalGeneration(config)
    letters = [number for word, number in words.get_vocab().items() if word.removesuffix("</w>").islower()]
    with torch.no_grad():  # nothing but small letters of English
        bias = model.text_decoder.cls.predictions.bias.fill_(-100)
        bias[[number for number in letters if words.convert_ids_to_tokens(number)[0].isascii()]] = 0
    model.eval().save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def save_reworder(folder: Path, *, seed: int = 0) -> Path:
    """A Llama of one layer with the tests' tokenizer, which writes nonsense."""
    torch.manual_seed(seed)
    words = tiny_tokenizer()
    config = LlamaConfig(
        **TOWER,
        num_hidden_layers=1,
        vocab_size=len(words),
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        tie_word_embeddings=False,
        max_position_embeddings=512,
    )
    LlamaForCausalLM(config).eval().save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def save_follower(folder: Path, *, seed: int = 0) -> Path:
    """A SAM 2 for clips that sees squares of 64 pixels, with the parts and names of the published ones."""
    torch.manual_seed(seed)
    stages = {
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 2, 4, 8],
        "blocks_per_stage": [1, 2, 2, 1],
        "window_size_per_stage": [4, 2, 4, 2],
        "global_attention_blocks": [4],
        "hidden_size": 8,
    }
    seen = {
        "model_type": "sam2_vision_model",
        "backbone_config": {"model_type": "sam2_hiera_det_model", "image_size": [64, 64], **stages},
        "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        "fpn_hidden_size": 128,
        "num_pos_feats": 64,
    }
    config = Sam2VideoConfig(
        vision_config=seen,
        prompt_encoder_config={"hidden_size": 128, "image_size": 64},
        mask_decoder_config={"hidden_size": 128, "mlp_dim": 32, "iou_head_hidden_dim": 16},
        image_size=64,
        memory_attention_hidden_size=128,
        memory_attention_num_layers=2,
        memory_attention_feed_forward_hidden_size=32,
        memory_attention_rope_feat_sizes=[4, 4],
        memory_encoder_hidden_size=128,
        mask_downsampler_embed_dim=128,
        memory_fuser_embed_dim=128,
        memory_fuser_intermediate_dim=32,
    )
    model = Sam2VideoModel(config)
    with torch.no_grad():  # what is trained from zero has a part in the answers
        for name, weight in model.named_parameters():
            if "memory" in name or "pointer" in name or "occlusion" in name:
                weight.add_(0.1 * torch.randn_like(weight))
    model.eval().save_pretrained(folder)
    return folder


def save_words_model(folder: Path, *, seed: int = 0) -> Path:
    """A CLIPSeg with two layers in each tower, and its tokenizer."""
    torch.manual_seed(seed)
    tower = {**TOWER, "num_hidden_layers": 2, "projection_dim": 16}
    marks = {"bos_token_id": 512, "eos_token_id": 513, "pad_token_id": 513}
    config = CLIPSegConfig(
        text_config={**tower, **marks, "vocab_size": 514},
        vision_config={**tower, "image_size": 64, "patch_size": 16},
        projection_dim=16,
        extract_layers=[0, 1],
        reduce_dim=8,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
        conditional_layer=0,
    )
    CLIPSegForImageSegmentation(config).eval().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder
