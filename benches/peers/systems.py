"""The systems that compute a loss of `losses.py`, from logits to the loss and the student's gradient."""

import dataclasses
import os
from typing import Callable

import torch
import torch.nn.functional as F

from losses import TSTR, log_probabilities


@dataclasses.dataclass
class System:
    """One implementation of a loss."""

    name: str
    #: `(student, teacher, labels) -> run`, and `run() -> (loss, grad)`. Conversions and compilation belong in `prepare`, which is not timed.
    prepare: Callable
    #: Peak memory besides the two inputs, in f32 matrices of rows x classes; an estimate for the memory check.
    matrices: float


# ---- PyTorch ---------------------------------------------------------------------------------------------------------


def with_autograd(loss_of):
    def prepare(student, teacher, labels):
        student = student.detach().requires_grad_()

        def run():
            loss = loss_of(student, teacher, labels)
            (grad,) = torch.autograd.grad(loss, student)
            return loss.detach(), grad

        return run

    return prepare


def compiled(function, mode):
    """Compiles anew for each shape. After a number of shapes the cache of a compiled function silently falls back to eager."""
    return torch.compile(function, fullgraph=True, dynamic=False, mode=mode)


def torch_compile(loss, mode):
    def prepare(student, teacher, labels):
        return with_autograd(compiled(loss.eager, mode))(student, teacher, labels)

    return System("torch.compile", prepare, 4)


def torch_compile_closed_form(loss, mode):
    def prepare(student, teacher, labels):
        function = compiled(loss.closed_form, mode)

        def run():
            with torch.no_grad():
                return function(student, teacher, labels)

        return run

    return System("torch.compile, closed form", prepare, 3)


def pytorch(loss, mode):
    systems = [System("torch eager", with_autograd(loss.eager), loss.matrices)]
    if loss.trl:
        systems.append(System("TRL's form, eager", with_autograd(loss.trl), loss.matrices + 2))
    return [*systems, torch_compile(loss, mode), torch_compile_closed_form(loss, mode)]


# ---- Liger -----------------------------------------------------------------------------------------------------------


def liger(loss):
    """Liger's Triton kernels that compute the loss, on CUDA only. Most take probabilities or their logarithms, which PyTorch computes."""
    from liger_kernel import ops

    systems = []

    def add(name, loss_of, matrices):
        systems.append(System(name, with_autograd(loss_of), matrices))

    if loss.liger_jsd is not None:

        def by_jsd(student, teacher, labels):
            return ops.LigerJSDFunction.apply(*log_probabilities(student, teacher), None, loss.liger_jsd)

        add(f"Liger JSD, beta {loss.liger_jsd:g}", by_jsd, 7)
    if loss.name == "forward-kl":

        def by_kl_div(student, teacher, labels):
            return ops.LigerKLDivLossFunction.apply(*log_probabilities(student, teacher), "batchmean", True)

        add("Liger KLDiv", by_kl_div, 6)
    if loss.name == "total-variation":

        def by_tvd(student, teacher, labels):
            p, q = (F.softmax(x, dim=1, dtype=torch.float32) for x in (student, teacher))
            return ops.LigerTVDLossFunction.apply(p, q, None, "batchmean")

        add("Liger TVD", by_tvd, 6)
        if hasattr(ops, "LigerFusedCETVDFunction"):

            def by_ce_tvd(student, teacher, labels):
                _, variation = ops.LigerFusedCETVDFunction.apply(student, teacher, labels)
                return variation.mean()

            add("Liger fused CE + TVD, without CE", by_ce_tvd, 1)
    return systems


# ---- JAX -------------------------------------------------------------------------------------------------------------


def jax_cpu(loss):
    """`jit(value_and_grad)` on the CPU."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax
    import jax.numpy as jnp

    def method(student, teacher, labels):
        log_p = jax.nn.log_softmax(student.astype(jnp.float32), axis=1)
        q = jax.nn.softmax(teacher.astype(jnp.float32), axis=1)
        p = jax.lax.stop_gradient(jnp.exp(log_p))
        kdr = (p * q).sum(1) / jnp.sqrt((p * p).sum(1) * (q * q).sum(1))
        tssr = jax.lax.stop_gradient(jnp.minimum(kdr, TSTR))
        hard = -jnp.take_along_axis(log_p, labels[:, None], axis=1)[:, 0]
        soft = -(q * log_p).sum(1)
        return (tssr * hard + (1 - tssr) * soft).mean()

    def divergence(student, teacher, labels):
        log_p, log_q = (jax.nn.log_softmax(x.astype(jnp.float32), axis=1) for x in (student, teacher))
        return loss.rows(jnp, log_p, log_q).mean()

    def prepare(student, teacher, labels):
        both = jax.jit(jax.value_and_grad(divergence if loss.rows else method))
        arrays = [jax.dlpack.from_dlpack(x) for x in (student, teacher, labels.int())]  # shared, not copied

        def run():
            return jax.block_until_ready(both(*arrays))

        return run

    return System("JAX jit (CPU)", prepare, loss.matrices)


def fetch(result):
    """Loss as a number and gradient as a torch tensor, for every system."""
    loss, grad = result
    if not isinstance(grad, torch.Tensor):
        grad = torch.from_dlpack(grad)
    return float(loss), grad


def available(loss, device, compile_mode):
    """The systems that can compute the loss on the device, and the reason for each that cannot."""
    systems, absent = pytorch(loss, compile_mode), {}
    if device == "cuda":
        try:
            found = liger(loss)
            if not found:
                absent["Liger"] = "has no kernel for this loss"
            systems += found
        except ImportError as error:
            absent["Liger"] = f"not installed ({error})"
        absent["JAX"] = "compared on the CPU only"
    else:
        absent["Liger"] = "needs a CUDA device"
        try:
            systems.append(jax_cpu(loss))
        except ImportError as error:
            absent["JAX"] = f"not installed ({error})"
    return systems, absent
