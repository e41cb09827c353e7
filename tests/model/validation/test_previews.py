"""Previews of validation images."""

from __future__ import annotations

import torch

from c2fdft_model.validation.previews import GAP, preview


def test_a_preview_shows_degraded_restored_and_clean_side_by_side():
    images = [torch.full((1, 3, 8, 10), value) for value in (0.0, 0.5, 1.0)]
    shown = preview(images)
    assert shown.shape == (8, 3 * 10 + 2 * GAP, 3)
    assert [shown[0, x, 0] for x in (0, 10 + GAP, 2 * (10 + GAP))] == [0, 128, 255]


def test_a_preview_of_large_images_is_shown_smaller():
    assert preview([torch.zeros(1, 3, 100, 400)], max_side=40).shape == (10, 40, 3)
