"""One modality of BBQRec: what of it is about behaviour, what is left, and back (paper, section 4.1.1 and eq. 8).

n items, d width of the feature, D width of a code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, layer_norm, normalize

from bbqrec_cli.data.features import standardized
from bbqrec_cli.records import Feature
from bbqrec_cli.tokenizers.training import mlp


class Modality(nn.Module):
    """One modality's encoders (eq. 2) and decoder (eq. 8).

    The behaviour-aligned output ends in a batch norm without gain and lies on the unit sphere, the specific one in a
    layer norm without gain: neither can shrink to nothing to please CLUB, and all signals meet the codebook on one
    scale. With unit=False both are left as the networks give them.
    """

    features: Tensor
    present: Tensor

    def __init__(self, feature: Feature, *, dim: int, hidden: int, specific: bool, unit: bool = True) -> None:
        super().__init__()
        self.unit = unit
        width = feature.values.shape[1]
        self.register_buffer("features", torch.from_numpy(standardized(feature)), persistent=False)
        self.register_buffer("present", torch.from_numpy(feature.present.copy()), persistent=False)
        self.aligned = nn.Sequential(*mlp(width, hidden, dim))
        self.norm = nn.BatchNorm1d(dim, affine=False)
        self.specific = nn.Sequential(*mlp(width, hidden, dim)) if specific else None
        self.decoder = nn.Sequential(*mlp((2 if specific else 1) * dim, hidden, width))

    def encode(self, x: Tensor) -> Tensor:
        """z, (n, D), of unit length."""
        return self.scale(self.aligned(x).float())

    def scale(self, z: Tensor) -> Tensor:
        """z of what the behaviour-aligned encoder put out, both (n, D)."""
        if not self.unit:
            return z
        if self.training and len(z) < 2:
            # One row has no variance: the running statistics must serve.
            return normalize(batch_norm(z, self.norm.running_mean, self.norm.running_var), dim=1)
        return normalize(self.norm(z), dim=1)

    @torch.no_grad()
    def encode_catalogue(self, *, block: int = 8192) -> Tensor:
        """z of every item, (I, D), zeros where it is absent.

        The batch norm gets the whole catalogue's statistics by that, so that codes do not depend on the last batches.
        """
        x = self.features[self.present]
        outputs = torch.cat([self.aligned(part).float() for part in x.split(block)]) if len(x) else x[:, :0]
        if len(outputs) > 1:
            self.norm.running_mean, self.norm.running_var = outputs.mean(0), outputs.var(0)
        z = torch.zeros(len(self.present), self.norm.num_features, device=x.device)
        if len(x):
            z[self.present] = self.scale(outputs)
        return z

    def encode_specific(self, x: Tensor) -> Tensor | None:
        """z̄, (n, D), of length √D, or None in the variant ¬MIM."""
        if self.specific is None:
            return None
        specific = self.specific(x).float()
        return layer_norm(specific, specific.shape[1:]) if self.unit else specific

    def decode(self, q: Tensor, specific: Tensor | None) -> Tensor:
        """x̂ of q ⊕ z̄ (both scaled to components of about 1), (n, d)."""
        q = q * q.shape[1] ** 0.5 if self.unit else q
        return self.decoder(q if specific is None else torch.cat([q, specific], dim=1))
