"""The small matrices of channel attention, and their gradients.

With q, k and v (pixels, c) of a head, c = C / heads, the attention matrix of Eq. 6 is

    A = softmax(temperature * q^T k / (|q| |k|))  (c, c), row i of q's channel i,

with |q| and |k| the norms of each channel over the pixels. It takes two sums over pixels: q^T k,
here "products" (B, heads, c, c), and the squared norms, "squares" (2, B, heads, c), of q and of k.

What the block adds is W_o A v: the output projection W_o of all heads' A v. Both are linear, so
they are one matrix for the image, the projected attention W_o A (B, C, C). It is kept transposed,
since feature maps (pixels, C) are multiplied from the right: v (W_o A)^T.
"""

import torch
from torch import Tensor

NORMALIZE_EPS = 1e-12


def project_attention(attention: Tensor, w_o: Tensor) -> Tensor:
    """(W_o A)^T (B, C, C) from A (B, heads, c, c) and the output projection (C, C, 1, 1)."""
    projected = _by_head(w_o, attention.shape[1]) @ attention  # (B, heads, C, c)
    return projected.transpose(2, 3).flatten(1, 2)


def project_attention_backward(
    d_projected: Tensor, attention: Tensor, w_o: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of A and of w_o, given that of (W_o A)^T (B, C, C)."""
    b, heads, width, _ = attention.shape
    d_by_head = d_projected.view(b, heads, width, -1).transpose(2, 3)
    d_w_o = (d_by_head @ attention.transpose(2, 3)).sum(0)  # (heads, C, c)
    d_attention = _by_head(w_o, heads).transpose(1, 2) @ d_by_head
    return d_attention, d_w_o.transpose(0, 1).reshape(w_o.shape)


def _by_head(w_o: Tensor, heads: int) -> Tensor:
    """The output projection (C, C, 1, 1) as (heads, C, c): what each head contributes."""
    return w_o.flatten(1).view(len(w_o), heads, -1).permute(1, 0, 2)


def attention_matrix(products: Tensor, squares: Tensor, temperature: Tensor) -> Tensor:
    """A (B, heads, c, c) from q^T k (B, heads, c, c) and the squares (2, B, heads, c)."""
    return (cosines(products, squares) * temperature).softmax(dim=-1)


def cosines(products: Tensor, squares: Tensor) -> Tensor:
    """q^T k divided by the norms of q and k."""
    norms = squares.sqrt().clamp_min(NORMALIZE_EPS)
    return products / norms[0][..., :, None] / norms[1][..., None, :]


def attention_matrix_backward(
    d_attention: Tensor, attention: Tensor, products: Tensor, squares: Tensor, temperature: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of products, squares and temperature of `attention_matrix`."""
    d_scores = attention * (d_attention - (d_attention * attention).sum(-1, keepdim=True))
    cosine = cosines(products, squares)
    d_cosine = d_scores * temperature
    d_temperature = (d_scores * cosine).sum((0, 2, 3)).view(temperature.shape)
    # cosine = products / (|q| |k|), and d|q| / dsquare = 1 / (2 |q|)
    along = d_cosine * cosine
    d_logarithm = torch.stack([along.sum(3), along.sum(2)])
    tiny = NORMALIZE_EPS**2
    d_squares = torch.where(squares > tiny, -d_logarithm / (2 * squares.clamp_min(tiny)), 0.0)
    return cosines(d_cosine, squares), d_squares, d_temperature
