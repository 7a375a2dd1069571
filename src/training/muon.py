"""Muon (Jordan et al. 2024): momentum orthogonalised by Newton-Schulz iterations, for hidden matrices."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class Muon(Optimizer):
    """Muon for matrices inside the network, AdamW for biases, norms, embeddings and the output layer.

    A parameter group with `muon: False`, and any parameter with fewer than two dimensions, goes to AdamW; convolution
    filters (out, in, h, w) are taken as matrices (out, in * h * w). Muon's updates are scaled to the size of AdamW's,
    so one learning rate and one weight decay serve both (Liu et al. 2025, arXiv:2502.16982).

    Args:
        params: parameters or groups.
        lr, weight_decay: of both.
        momentum, nesterov, ns_steps: of Muon; ns_steps is the number of Newton-Schulz iterations.
        betas, eps: of AdamW.
    """

    splits_hidden = True  # asks the model for groups with `muon`: hidden matrices apart from the output layer

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float = 2e-3,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.01,
        ns_steps: int = 5,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self.muon_options: dict[str, Any] = {"momentum": momentum, "nesterov": nesterov, "ns_steps": ns_steps}
        self.adamw_options: dict[str, Any] = {"betas": tuple(betas), "eps": eps}
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "muon": True})

    def __getstate__(self) -> dict[str, Any]:
        # torch keeps only state and groups: a copy needs the options too
        return super().__getstate__() | {"muon_options": self.muon_options, "adamw_options": self.adamw_options}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # one for all
        """Make one step of both algorithms; return the closure's loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        matrices, rest = [], []
        for group in self.param_groups:
            rates = {"lr": group["lr"], "weight_decay": group["weight_decay"]}
            ready = [p for p in group["params"] if p.grad is not None]
            hidden = [p for p in ready if group["muon"] and p.ndim > 1]
            others = [p for p in ready if not group["muon"] or p.ndim < 2]
            matrices += [rates | {"params": hidden}] if hidden else []
            rest += [rates | {"params": others}] if others else []
        if matrices:
            self._step_matrices(matrices)
        if rest:
            adamw = torch.optim.AdamW(rest, **self.adamw_options)
            adamw.state = self.state
            adamw.step()
        return loss

    def _step_matrices(self, groups: list[dict[str, Any]]) -> None:
        pairs: list[tuple[Tensor, Tensor]] = []
        for group in groups:
            views = []
            for p in group["params"]:
                view = p.detach().flatten(1)
                view.grad = p.grad.flatten(1)
                views.append(view)
                pairs.append((p, view))
            group["params"] = views
        muon = torch.optim.Muon(groups, adjust_lr_fn="match_rms_adamw", **self.muon_options)
        for p, view in pairs:
            muon.state[view] = self.state[p]  # the same dict: what Muon writes is kept under the parameter
        muon.step()
        for p, view in pairs:
            if view.data_ptr() != p.data_ptr():  # filters in channels_last order have no flat view
                p.copy_(view.view(p.shape))
