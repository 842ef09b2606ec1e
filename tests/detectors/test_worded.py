"""Laws of detectors that are told in words what to look for: boxes as their own processors have them, exact maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import detecting
import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image
from readers import VOCABULARY, tokenizer
from torch import nn

import vislab
from vislab.cli.main import main

LABELS = ("a red church", "fish", "the sun")
PHOTO = detecting.PHOTO


def owl(kind: str, **settings: Any) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = {"vocab_size": 96, "max_position_embeddings": 16, "eos_token_id": 2, "pad_token_id": 0, **sizes}
    config = getattr(hf, f"{kind}Config")(
        text_config=text, vision_config={"image_size": 48, "patch_size": 8, **sizes}, projection_dim=32, **settings
    )
    images = getattr(hf, f"{kind}ImageProcessor")(size={"height": 48, "width": 48})
    words = tokenizer(bos=True)
    words.model_max_length = 16
    return detecting.roughened(getattr(hf, f"{kind}ForObjectDetection")(config)), getattr(hf, f"{kind}Processor")(
        images, words
    )


def dino(**settings: Any) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    text = hf.BertConfig(
        vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4
    )
    config = hf.GroundingDinoConfig(
        backbone_config=hf.ResNetConfig(**detecting.STAGES, out_features=["stage2", "stage3", "stage4"]),
        text_config=text, num_queries=7, d_model=32, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=48,
        decoder_ffn_dim=48, encoder_attention_heads=4, decoder_attention_heads=4, num_feature_levels=4, max_text_len=32,
        **settings,
    )  # fmt: skip
    words = hf.BertTokenizer(vocab={word: at for at, word in enumerate(_bert())})
    images = hf.GroundingDinoImageProcessor(size={"height": 96, "width": 160})
    return detecting.roughened(hf.GroundingDinoForObjectDetection(config)), hf.GroundingDinoProcessor(images, words)


def _bert() -> list[str]:
    """101, 102, … of BERT do not fit: the model finds its special tokens by these ids."""
    marks = {"<pad>": "[PAD]", "<s>": "[CLS]", "</s>": "[SEP]", "<unk>": "[UNK]", "<image>": "[MASK]"}
    return [marks.get(word, word) for word in VOCABULARY]


MAKERS = {
    "OWL-ViT": lambda **settings: owl("OwlViT", **settings),
    "OWLv2": lambda **settings: owl("Owlv2", **settings),
    "Grounding DINO": dino,
}


def ready(name: str) -> tuple[vislab.Detector, nn.Module, Any]:
    module, processor = MAKERS[name]()
    return vislab.load_detector(module, processor=processor), module, processor


@pytest.mark.parametrize("name", MAKERS)
def test_boxes_are_those_of_the_processor(name: str) -> None:
    detector, module, processor = ready(name)
    inputs = processor(text=[list(LABELS)], images=Image.fromarray(PHOTO), return_tensors="pt")
    with torch.no_grad():
        output = module.eval()(**inputs)
    more = {"text_threshold": 0.0} if name == "Grounding DINO" else {}
    [own] = processor.post_process_grounded_object_detection(
        output, threshold=0.0, target_sizes=[PHOTO.shape[:2]], **more
    )
    boxes = vislab.detect(PHOTO, detector=detector, labels=LABELS, confidence=0.0)
    assert len(boxes) == len(own["boxes"])
    assert {*boxes.labels} <= {*LABELS}
    np.testing.assert_allclose(boxes.xyxy, own["boxes"].numpy()[boxes.origin], atol=2e-3)
    if name == "Grounding DINO":
        ids = inputs["input_ids"][0].tolist()
        runs = [[ids.index(processor.tokenizer.convert_tokens_to_ids(word)) for word in one.split()] for one in LABELS]
        by_label = torch.stack([output.logits[0][:, run].amax(-1) for run in runs], -1).sigmoid()
        scores, best = (part.numpy()[boxes.origin] for part in by_label.max(-1))
        np.testing.assert_allclose(boxes.scores, scores, atol=1e-6)
        assert boxes.labels == tuple(LABELS[int(at)] for at in best)
    else:
        np.testing.assert_allclose(boxes.scores, own["scores"].numpy()[boxes.origin], atol=1e-6)
        assert len({*boxes.labels}) > 1
        assert boxes.labels == tuple(LABELS[int(own["labels"][at])] for at in boxes.origin)


@pytest.mark.parametrize("name", ["OWL-ViT", "OWLv2"])
def test_a_box_rests_on_what_its_patch_attends_to(name: str, tmp_path: Path) -> None:
    detector, _, processor = ready(name)
    boxes = vislab.detect(PHOTO, detector=detector, labels=LABELS, confidence=0.0)
    eager = MAKERS[name](attn_implementation="eager")[0].eval()
    with torch.no_grad():
        output = eager(
            **processor(text=[list(LABELS)], images=Image.fromarray(PHOTO), return_tensors="pt"),
            output_attentions=True,
        )
    for layer, own in enumerate(output.vision_model_output.attentions):
        for box in (0, 5):
            heat = vislab.explain_box(PHOTO, box=box, detector=detector, labels=list(LABELS), layer=layer, head=2)
            row = own[0, 2, 1 + boxes.origin[box], 1:]
            np.testing.assert_allclose(heat.values, row.reshape(heat.values.shape).numpy(), atol=1e-5)
            assert boxes.labels[box] in str(heat.query)
    path = vislab.save(tmp_path / "box.png", vislab.explain_box(PHOTO, detector=detector, labels=LABELS))
    assert f"labels={LABELS!r}" in vislab.provenance(path)["call"]
    assert str(vislab.reproduce(path, image=PHOTO, model=detector)) == "nothing differs"
    seen = np.asarray(heat.frame.model) / heat.frame.scale
    assert seen == pytest.approx((120, 120) if name == "OWLv2" else (72, 120))  # OWLv2's are padded to a square
    with pytest.raises(ValueError, match=r"no neck of feature maps.*method='attention'"):
        vislab.explain_box(PHOTO, detector=detector, labels=LABELS, method="grad_cam")


def test_what_samples_points_has_points_and_no_map() -> None:
    detector, module, _ = ready("Grounding DINO")
    with pytest.raises(ValueError, match="made by deformable attention, which samples a few points"):
        vislab.explain_box(PHOTO, detector=detector, labels=LABELS)
    glance = detector.told(LABELS).glance(PHOTO)
    points = glance.points(0)
    heads, levels, per_level = points.weights.shape
    assert (heads, levels) == (4, 4)
    assert points.strides == (8, 16, 32, 64)
    np.testing.assert_allclose(points.weights.sum((1, 2)), 1, atol=1e-5)
    kept: list[Any] = []
    last = module.model.decoder.layers[-1].encoder_attn
    with last.register_forward_hook(lambda _, __, output: kept.append(output[1])):
        detector.told(LABELS).glance(PHOTO)
    weights = kept[0][0, points.box.origin[0]].reshape(heads, levels, per_level)
    np.testing.assert_allclose(points.weights, weights.numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "labels", "said"),
    [
        ("OWL-ViT", None, "looks for what it is told: say it, labels="),
        ("OWL-ViT", "a church", "labels are what to look for, in words.*not 'a church'"),
        ("OWL-ViT", [], "labels are what to look for"),
        ("OWL-ViT", ["a", 3], "labels are what to look for"),
        ("OWL-ViT", ["a fish", "a fish "], "name each thing once"),
        ("OWL-ViT", ["a " * 20], "labels of up to 16 tokens fit"),
        ("Grounding DINO", ["a." * 2], "has a point, by which"),
        ("Grounding DINO", ["fish " * 40], "labels of up to 32 tokens fit, and they are longer"),
    ],
)
def test_what_cannot_be_looked_for(name: str, labels: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        vislab.detect(PHOTO, detector=ready(name)[0], labels=labels)


def test_what_is_told_nothing_or_has_no_processor() -> None:
    with pytest.raises(ValueError, match=r"looks for its own \d+ classes: leave labels out.*OWL-ViT"):
        vislab.detect(PHOTO, labels=["a fish"])
    detector, module, processor = ready("OWL-ViT")
    with pytest.raises(ValueError, match="leave image_size"):
        vislab.detect(PHOTO, detector=detector, labels=LABELS, image_size=64)
    with pytest.raises(ValueError, match="needs its processor, of images and texts"):
        vislab.load_detector(module)
    with pytest.raises(ValueError, match="brings its own processor"):
        vislab.load_detector("embedded", processor=processor)


def test_a_folder_by_the_command_and_a_pipeline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, module, processor = ready("OWL-ViT")
    module.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    photo = str(tmp_path / "photo.png")
    Image.fromarray(PHOTO).save(photo)
    words = ["--labels", "a red church, fish", "--confidence", "0.01"]
    assert main(["detect", photo, "--detector", str(tmp_path), *words]) == 0
    assert "fish" in capsys.readouterr().out
    pipe = hf.pipeline(
        "zero-shot-object-detection", model=module, tokenizer=processor.tokenizer,
        image_processor=processor.image_processor, processor=processor,
    )  # fmt: skip
    found = vislab.detect(PHOTO, detector=pipe, labels=["fish"], confidence=0.0)
    assert {*found.labels} == {"fish"}
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(OSError, match="cannot load the detector"):
        vislab.load_detector(tmp_path)
