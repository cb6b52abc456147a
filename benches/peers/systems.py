"""The same work in other systems, from logits to the loss and the student's gradient.

The loss is the crate's default: similarity Cosine, selection Min, scope Row, reduction Mean, temperatures 1, and TSSR
detached. Each system names the definition that its result is checked against. Liger's systems compute other losses, have names
that say so, and are checked against their own definitions.
"""

import dataclasses
import math
import os
from typing import Callable

import torch
import torch.nn.functional as F

STEP, TOTAL = 1, 2
TSTR = STEP / TOTAL


@dataclasses.dataclass
class System:
    """One implementation."""

    name: str
    #: `(student, teacher, labels) -> run`, and `run() -> (loss, grad)`. Conversions and compilation belong in `prepare`, which is not timed.
    prepare: Callable
    #: `(student, teacher, labels) -> loss`, differentiable, in the precision of its inputs; the mean over the rows.
    definition: Callable
    #: Peak memory besides the two inputs, in f32 matrices of rows x classes; an estimate for the memory check.
    matrices: float
    same_loss: bool = True


# ---- definitions -----------------------------------------------------------------------------------------------------


def distill_definition(student, teacher, labels):
    """The textbook form: the cross-entropy with an explicit target."""
    q = F.softmax(teacher, dim=1)
    with torch.no_grad():
        kdr = F.cosine_similarity(F.softmax(student, dim=1), q, dim=1, eps=1e-30)
        tssr = kdr.clamp(0, 1).clamp(max=TSTR)[:, None]
        target = tssr * F.one_hot(labels, student.shape[1]) + (1 - tssr) * q
    return F.cross_entropy(student, target)


def jsd_definition(student, teacher, labels):
    """The Jensen-Shannon divergence in nats."""
    log_p, log_q = F.log_softmax(student, dim=1), F.log_softmax(teacher, dim=1)
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    rows = (log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)).sum(1) / 2
    return rows.mean()


def ce_tvd_definition(student, teacher, labels):
    """Half cross-entropy with the label, half total variation from the teacher."""
    variation = (F.softmax(student, dim=1) - F.softmax(teacher, dim=1)).abs().sum(1) / 2
    return (F.cross_entropy(student, labels, reduction="none") + variation).mean() / 2


# ---- PyTorch ---------------------------------------------------------------------------------------------------------


def distill_loss(student, teacher, labels):
    """An efficient form: no dense target, sums in f32 for every storage type."""
    log_p = F.log_softmax(student, dim=1, dtype=torch.float32)
    with torch.no_grad():
        q = F.softmax(teacher, dim=1, dtype=torch.float32)
        p = log_p.exp()
        kdr = (p * q).sum(1) / ((p * p).sum(1) * (q * q).sum(1)).sqrt()
        tssr = kdr.clamp(max=TSTR)
        del p
    hard = -log_p.gather(1, labels[:, None]).squeeze(1)
    soft = -(q * log_p).sum(1)
    return (tssr * hard + (1 - tssr) * soft).mean()


def closed_form(student, teacher, labels):
    """The gradient written by hand, so that a compiler gets loss and gradient as one graph and stores nothing for a backward pass."""
    log_p = F.log_softmax(student, dim=1, dtype=torch.float32)
    p, q = log_p.exp(), F.softmax(teacher, dim=1, dtype=torch.float32)
    kdr = (p * q).sum(1) / ((p * p).sum(1) * (q * q).sum(1)).sqrt()
    tssr = kdr.clamp(max=TSTR)
    hard = -log_p.gather(1, labels[:, None]).squeeze(1)
    soft = -(q * log_p).sum(1)
    at_label = torch.arange(student.shape[1], device=student.device) == labels[:, None]
    grad = p - (1 - tssr)[:, None] * q - torch.where(at_label, tssr[:, None], 0.0)
    return (tssr * hard + (1 - tssr) * soft).mean(), (grad / student.shape[0]).to(student.dtype)


def with_autograd(loss_of):
    def prepare(student, teacher, labels):
        student = student.detach().requires_grad_()

        def run():
            loss = loss_of(student, teacher, labels)
            (grad,) = torch.autograd.grad(loss, student)
            return loss.detach(), grad

        return run

    return prepare


def torch_eager():
    return System("torch eager", with_autograd(distill_loss), distill_definition, 7)


def compiled(function, mode):
    """Compiles anew for each shape. After a number of shapes the cache of a compiled function silently falls back to eager."""
    return torch.compile(function, fullgraph=True, dynamic=False, mode=mode)


def torch_compile(mode):
    def prepare(student, teacher, labels):
        return with_autograd(compiled(distill_loss, mode))(student, teacher, labels)

    return System("torch.compile", prepare, distill_definition, 4)


def torch_compile_closed_form(mode):
    def prepare(student, teacher, labels):
        function = compiled(closed_form, mode)

        def run():
            with torch.no_grad():
                return function(student, teacher, labels)

        return run

    return System("torch.compile, closed form", prepare, distill_definition, 3)


# ---- Liger -----------------------------------------------------------------------------------------------------------


def liger():
    """Liger's Triton kernels, on CUDA only. None computes the crate's loss."""
    from liger_kernel import ops

    systems = []

    def jsd(student, teacher, labels):
        # The kernel takes log-probabilities. They are f32, since bf16 log-probabilities would lose precision.
        log_p = F.log_softmax(student, dim=1, dtype=torch.float32)
        with torch.no_grad():
            log_q = F.log_softmax(teacher, dim=1, dtype=torch.float32)
        return ops.LigerJSDFunction.apply(log_p, log_q)

    systems.append(System("Liger JSD (another loss, for scale)", with_autograd(jsd), jsd_definition, 6, same_loss=False))
    if hasattr(ops, "LigerFusedCETVDFunction"):

        def ce_tvd(student, teacher, labels):
            hard, variation = ops.LigerFusedCETVDFunction.apply(student, teacher, labels)
            return (hard + variation).mean() / 2

        systems.append(System("Liger fused CE + TVD (another loss, for scale)", with_autograd(ce_tvd), ce_tvd_definition, 1, same_loss=False))
    return systems


# ---- JAX -------------------------------------------------------------------------------------------------------------


def jax_cpu():
    """`jit(value_and_grad)` on the CPU."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax
    import jax.numpy as jnp

    def loss_of(student, teacher, labels):
        log_p = jax.nn.log_softmax(student.astype(jnp.float32), axis=1)
        q = jax.nn.softmax(teacher.astype(jnp.float32), axis=1)
        p = jax.lax.stop_gradient(jnp.exp(log_p))
        kdr = (p * q).sum(1) / jnp.sqrt((p * p).sum(1) * (q * q).sum(1))
        tssr = jax.lax.stop_gradient(jnp.minimum(kdr, TSTR))
        hard = -jnp.take_along_axis(log_p, labels[:, None], axis=1)[:, 0]
        soft = -(q * log_p).sum(1)
        return (tssr * hard + (1 - tssr) * soft).mean()

    def prepare(student, teacher, labels):
        both = jax.jit(jax.value_and_grad(loss_of))
        arrays = [jax.dlpack.from_dlpack(x) for x in (student, teacher, labels.int())]  # shared, not copied

        def run():
            return jax.block_until_ready(both(*arrays))

        return run

    return System("JAX jit (CPU)", prepare, distill_definition, 5)


def fetch(result):
    """Loss as a number and gradient as a torch tensor, for every system."""
    loss, grad = result
    if not isinstance(grad, torch.Tensor):
        grad = torch.from_dlpack(grad)
    return float(loss), grad


def available(device, compile_mode):
    """The systems that can run on the device, and the reason for each that cannot."""
    systems, absent = [torch_eager()], {}
    systems += [torch_compile(compile_mode), torch_compile_closed_form(compile_mode)]
    if device == "cuda":
        try:
            systems += liger()
        except ImportError as error:
            absent["Liger"] = f"not installed ({error})"
        absent["JAX"] = "compared on the CPU only"
    else:
        absent["Liger"] = "needs a CUDA device"
        try:
            systems.append(jax_cpu())
        except ImportError as error:
            absent["JAX"] = f"not installed ({error})"
    return systems, absent
