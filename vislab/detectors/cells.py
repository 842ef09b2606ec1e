"""What ultralytics' own predictor makes of the cells of a network: boxes, and by its task masks, keypoints or turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..core.geometry import Frame
from .detections import Decoded

if TYPE_CHECKING:
    from .yolo import Yolo

# Heads by what they find beside boxes; those of YOLO26 bear its number.
BOXES = ("Detect", "v10Detect", "YOLOEDetect")
MASKS = ("Segment", "Segment26", "YOLOESegment", "YOLOESegment26")
POSES = ("Pose", "Pose26")
TURNED = ("OBB", "OBB26")
HEADS = (*BOXES, *MASKS, *POSES, *TURNED)


def decoded(family: Yolo, output: Any, frame: Frame, confidence: float, iou: float) -> Decoded:
    """The boxes that ultralytics' own predictor gives, in its order, with the cell behind each."""
    from ultralytics.utils.nms import non_max_suppression
    from ultralytics.utils.ops import process_mask, scale_boxes, scale_coords, xywhr2xyxyxyxy

    prediction, raw = output
    prediction, protos = prediction if isinstance(prediction, tuple) else (prediction, None)
    prediction = prediction.clone()  # decoding writes into it
    head = type(family.head).__name__
    ends = bool(family.module.end2end)  # a network fused for NMS-free boxes; others have none after fusing
    nms: dict[str, Any] = {"nc": len(family.labels), "end2end": ends, "return_idxs": True}
    nms["agnostic"] = head.startswith("YOLOE")  # boxes of two classes suppress each other too
    nms["rotated"] = head in TURNED
    [found], [cell] = non_max_suppression(prediction, confidence, iou, **nms)
    cell = cell.reshape(-1)
    if ends:
        scores = raw["one2one"]["scores"].permute(0, 2, 1).sigmoid()
        cell = family.head.get_topk_index(scores, family.head.max_det)[2][0, cell].reshape(-1)
    more: dict[str, Tensor] = {}
    if protos is not None:
        masks = process_mask(protos[0], found[:, 6:], found[:, :4], frame.model, upsample=True)
        there = masks.amax((-2, -1)) > 0  # boxes without a mask are none
        found, cell, more["masks"] = found[there], cell[there], masks[there].bool()
    elif head in POSES:
        points = found[:, 6:].reshape(len(found), *family.head.kpt_shape).clone()
        more["keypoints"] = scale_coords(frame.model, points, frame.source)
    if head in TURNED:
        xywh = scale_boxes(frame.model, found[:, :4].clone(), frame.source, xywh=True)
        corners = xywhr2xyxyxyxy(torch.cat([xywh, found[:, -1:]], 1))
        return Decoded(
            torch.cat([corners.amin(1), corners.amax(1)], 1), found[:, 4], found[:, 5], cell, corners=corners
        )
    xyxy = scale_boxes(frame.model, found[:, :4].clone(), frame.source)
    return Decoded(xyxy, found[:, 4], found[:, 5], cell, **more)
