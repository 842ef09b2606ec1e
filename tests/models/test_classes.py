"""Laws of words for what a model returns: features are no classes, numbers no probabilities, a sigmoid no softmax."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import tiny
import torch
import torch.nn.functional as F
import torchvision
import transformers as hf
from models.test_model import photo
from torch import Tensor, nn

import vislab
from vislab.models import classes
from vislab.models.model import Model

TIMM: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 1, "num_heads": 3}


def timm_vit(**settings: Any) -> nn.Module:
    torch.manual_seed(0)
    return tiny.roughened(timm.create_model("vit_tiny_patch16_224", **TIMM | {"num_classes": 5} | settings)).eval()


class Headed(nn.Module):
    """A backbone of 48 features, and what is made of them."""

    def __init__(self, head: nn.Module, after: Any = lambda x: x) -> None:
        super().__init__()
        self.backbone, self.head, self.after = timm_vit(num_classes=0), head, after

    def forward(self, pixels: Tensor) -> Tensor:
        return self.after(self.head(self.backbone(pixels)))


class LastTokens(nn.Module):
    """As DINO's own repository has it: the last block's CLS token, which ends in a linear layer and a residual path."""

    def __init__(self) -> None:
        super().__init__()
        self.vit = timm_vit(num_classes=0)
        self.vit.norm = nn.Identity()

    def forward(self, pixels: Tensor) -> Tensor:
        return self.vit.forward_features(pixels)[:, 0]


def headless_timm() -> nn.Module:
    module = timm_vit()
    module.head = nn.Identity()
    return module


def headless_torchvision() -> nn.Module:
    module = torchvision.models.VisionTransformer(32, 8, 1, 3, 48, 96).eval()
    module.heads = nn.Identity()
    return module


def headless_transformers() -> nn.Module:
    module = tiny.make("ViT classifier").eval()
    module.classifier = nn.Identity()
    return module


@pytest.mark.parametrize(
    "make",
    [
        headless_timm,
        headless_torchvision,
        headless_transformers,
        LastTokens,
        lambda: timm_vit(num_classes=0),
        lambda: Headed(nn.Linear(48, 7), lambda x: F.normalize(x, dim=1)),  # an embedding of length 1, as CLIP's
        lambda: Headed(nn.Sequential(nn.Linear(48, 7), nn.LayerNorm(7))),
        lambda: Headed(nn.Linear(48, 7), torch.tanh),
    ],
)
def test_features_are_no_classes(make: Any) -> None:
    model = vislab.load(make())
    with pytest.raises(ValueError, match=r"has no classifier.* give|has no classifier.*Give"):
        vislab.explain(photo((40, 40)), model=model, method="grad_cam")
    assert model.labels is None
    assert model.classes is None
    for call in (lambda: model.predict(photo((40, 40))), lambda: vislab.patch_score(photo((40, 40)), model=model)):
        with pytest.raises(ValueError, match="has no classifier"):
            call()
    heat = vislab.explain(photo((40, 40)), model=model, method="relevance", target=first_feature)
    assert heat.target == "first_feature"


def first_feature(output: Any) -> Tensor:
    return (output if isinstance(output, Tensor) else output.logits)[0, 0]


@pytest.mark.parametrize("after", [lambda x: x, lambda x: x / 0.07, lambda x: x.double(), lambda x: x.log_softmax(1)])
def test_a_linear_head_makes_classes(after: Any) -> None:
    module = Headed(nn.Linear(48, 7), after)
    model = vislab.load(module)
    assert model.labels == tuple(f"class {index}" for index in range(7))
    pixels, _ = model.preprocessing(photo((40, 40)))
    with torch.no_grad():
        own = module(pixels)[0].softmax(0)
    best = model.predict(photo((40, 40)), top=7)
    assert dict(best) == pytest.approx({f"class {i}": float(p) for i, p in enumerate(own)}, rel=1e-4)
    assert vislab.explain(photo((40, 40)), model=model, method="relevance", target="class 2").target == "class 2"
    with pytest.raises(ValueError, match="knows no class 'class 7'"):
        vislab.explain(photo((40, 40)), model=model, method="relevance", target="class 7")


@pytest.mark.parametrize(("after", "kind"), [(lambda x: x.softmax(1), "exclusive"), (torch.sigmoid, "independent")])
def test_probabilities_that_a_model_makes_itself_are_told_as_they_are(after: Any, kind: str) -> None:
    module = Headed(nn.Linear(48, 7), after)
    model = vislab.load(module)
    pixels, _ = model.preprocessing(photo((40, 40)))
    with torch.no_grad():
        own = module(pixels)[0]
    assert dict(model.predict(photo((40, 40)), top=7)) == pytest.approx(
        {f"class {index}": float(p) for index, p in enumerate(own)}, rel=1e-4
    )
    assert model.classes is not None
    assert model.classes.kind == kind


def classifier(**settings: Any) -> hf.ViTForImageClassification:
    torch.manual_seed(0)
    return tiny.roughened(hf.ViTForImageClassification(hf.ViTConfig(**tiny.VIT | settings))).eval()  # type: ignore[return-value]


def logits(model: Model) -> Tensor:
    with torch.no_grad():
        return model.module(model.preprocessing(photo((40, 40)))[0]).logits[0]  # type: ignore[no-any-return]


def test_classes_that_do_not_exclude_each_other_have_a_sigmoid_each() -> None:
    model = vislab.load(classifier(num_labels=4, problem_type="multi_label_classification"))
    own = {f"LABEL_{index}": float(p) for index, p in enumerate(logits(model).sigmoid())}
    assert dict(model.predict(photo((40, 40)))) == pytest.approx(own, rel=1e-4)
    heat = vislab.api.explain.heatmap(
        model,
        model.run(photo((40, 40))),
        photo((40, 40)),
        vislab.methods.request.Request(),
        token=None,
    )
    assert heat.facts["scores"] == "probability of each class for itself"
    score = vislab.patch_score(photo((40, 40)), model=model, target=2)
    whole = score(torch.ones(1, 4, 4, dtype=torch.bool).numpy())
    assert whole[0] == pytest.approx(own["LABEL_2"], rel=1e-4)


@pytest.mark.parametrize(
    "settings", [{"num_labels": 1}, {"num_labels": 1, "problem_type": "regression"}, {"problem_type": "regression"}]
)
def test_a_regression_gives_its_number_and_is_not_evaluated(settings: dict[str, Any]) -> None:
    model = vislab.load(classifier(**settings))
    own = {f"LABEL_{index}": float(value) for index, value in enumerate(logits(model))}
    assert dict(model.predict(photo((40, 40)))) == pytest.approx(own, rel=1e-3)
    assert vislab.explain(photo((40, 40)), model=model, method="relevance").target in own
    with pytest.raises(ValueError, match=r"gives LABEL_0.* as a number, and no probability"):
        vislab.evaluate([photo((40, 40))], model=model, methods=["relevance"], progress=False)


def test_names_come_from_the_user_or_the_maker_and_are_counted() -> None:
    named = vislab.load(timm_vit(), labels=["a", "b", "c", "d", "e"])
    assert [label for label, _ in sorted(named.predict(photo((40, 40))))] == ["a", "b", "c", "d", "e"]
    with pytest.raises(ValueError, match="labels names 2 classes, and VisionTransformer has 5 logits"):
        vislab.load(timm_vit(), labels=["a", "b"])
    with pytest.raises(ValueError, match="names 'a' twice"):
        vislab.load(timm_vit(), labels=["a", "a", "b", "c", "d"])
    with pytest.raises(ValueError, match="a list of names"):
        vislab.load(timm_vit(), labels="abcde")
    with pytest.raises(ValueError, match="has no classifier, so labels would name nothing"):
        vislab.load(headless_timm(), labels=["a"] * 1)
    module = timm_vit()
    module.pretrained_cfg["label_names"] = ["n1", "n2", "n3", "n4", "n5"]
    module.pretrained_cfg["label_descriptions"] = {"n2": "tench"}
    assert vislab.load(module).labels == ("n1", "tench", "n3", "n4", "n5")
    module.head = nn.Identity()  # the recipe still names five
    model = vislab.load(module)
    model.run(photo((40, 40)))
    assert model.labels is None


def test_a_head_that_is_put_in_place_later_is_found() -> None:
    module = headless_timm()
    assert vislab.load(module).labels is None
    module.head = nn.Linear(48, 3)
    assert vislab.load(module).labels == ("class 0", "class 1", "class 2")


def test_nothing_is_left_on_the_module() -> None:
    module = timm_vit()
    before = tiny.fingerprint(module)
    assert vislab.load(module).labels is not None
    assert tiny.fingerprint(module) == before


def test_a_forward_is_watched_once() -> None:
    module = timm_vit()
    model = vislab.load(module)
    with classes.watched(module) as watch:
        assert watch is not None
    model.run(photo((40, 40)))
    with classes.watched(module) as watch:
        assert watch is None
