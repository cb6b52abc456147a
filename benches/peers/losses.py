"""The losses that are compared: definition, gradient by hand, and the forms that other libraries use.

All are means over the rows at temperature 1, with the gradient for the student only. `p` is the student's softmax, `q` the teacher's.
The method is the crate's default: similarity Cosine, selection Min, scope Row, TSTR 1/2, TSSR detached. The divergences have no label's part.
"""

import dataclasses
import math
from typing import Callable

import torch
import torch.nn.functional as F

TSTR = 0.5


@dataclasses.dataclass
class Loss:
    """One loss. Functions take `(student, teacher, labels)`, logits `[rows, classes]`, and return the mean over the rows."""

    #: The name on the command line and in records.
    name: str
    #: The name in the crate's text form.
    ours: str
    #: The formula, for the report.
    formula: str
    #: Differentiable, in the precision of its inputs.
    definition: Callable
    #: Differentiable; sums in f32 for every storage type.
    eager: Callable
    #: Returns loss and gradient, so that a compiler gets both as one graph and stores nothing for a backward pass.
    closed_form: Callable
    #: `(namespace, log_p, log_q) -> loss of each row` for a divergence, with the functions of torch or jax.numpy.
    rows: Callable | None = None
    #: The form that TRL uses: both `log_softmax`, then `F.kl_div` with logarithms as targets.
    trl: Callable | None = None
    #: `beta` of Liger's JSD kernel that gives this loss.
    liger_jsd: float | None = None
    #: `(student, teacher)` in f64 -> the error that rounding may cause in each element of a row's gradient, where a derivative jumps.
    slack: Callable | None = None
    #: Peak memory of `eager` besides the two inputs, in f32 matrices of rows x classes; an estimate for the memory check.
    matrices: float = 8
    #: Is the gradient exact relative to the largest element of its own row? Otherwise relative to the largest of all rows: the backward
    #: pass through `log_softmax` cancels on rows with high peaks, where PyTorch in f32 has an error of 0.6 % of a tiny row.
    exact_rows: bool = False


def log_probabilities(student, teacher):
    """Both in f32: logarithms of probabilities in bf16 would lose precision."""
    return F.log_softmax(student, dim=1, dtype=torch.float32), F.log_softmax(teacher, dim=1, dtype=torch.float32)


def divergence(name, ours, formula, rows, closed_form, **more):
    """A loss from the formula of a row."""

    def definition(student, teacher, labels):
        return rows(torch, F.log_softmax(student, dim=1), F.log_softmax(teacher, dim=1)).mean()

    def eager(student, teacher, labels):
        return rows(torch, *log_probabilities(student, teacher)).mean()

    def closed(student, teacher, labels):
        loss, grad = closed_form(*log_probabilities(student, teacher))
        return loss.mean(), (grad / student.shape[0]).to(student.dtype)

    return Loss(name, ours, formula, definition, eager, closed, rows, **more)


def batch_mean(elements):
    return elements.sum() / elements.shape[0]


# ---- the method ------------------------------------------------------------------------------------------------------


def method_definition(student, teacher, labels):
    """The textbook form: the cross-entropy with an explicit target."""
    q = F.softmax(teacher, dim=1)
    with torch.no_grad():
        kdr = F.cosine_similarity(F.softmax(student, dim=1), q, dim=1, eps=1e-30)
        tssr = kdr.clamp(0, 1).clamp(max=TSTR)[:, None]
        target = tssr * F.one_hot(labels, student.shape[1]) + (1 - tssr) * q
    return F.cross_entropy(student, target)


def method_eager(student, teacher, labels):
    """An efficient form without a dense target."""
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


def method_closed_form(student, teacher, labels):
    log_p = F.log_softmax(student, dim=1, dtype=torch.float32)
    p, q = log_p.exp(), F.softmax(teacher, dim=1, dtype=torch.float32)
    kdr = (p * q).sum(1) / ((p * p).sum(1) * (q * q).sum(1)).sqrt()
    tssr = kdr.clamp(max=TSTR)
    hard = -log_p.gather(1, labels[:, None]).squeeze(1)
    soft = -(q * log_p).sum(1)
    at_label = torch.arange(student.shape[1], device=student.device) == labels[:, None]
    grad = p - (1 - tssr)[:, None] * q - torch.where(at_label, tssr[:, None], 0.0)
    return (tssr * hard + (1 - tssr) * soft).mean(), (grad / student.shape[0]).to(student.dtype)


def method():
    formula = "the method: Cosine, Min, Row, TSTR 1/2"
    return Loss("method", "method", formula, method_definition, method_eager, method_closed_form, matrices=7, exact_rows=True)


# ---- divergences -----------------------------------------------------------------------------------------------------


def forward_kl():
    def rows(xp, log_p, log_q):
        return (xp.exp(log_q) * (log_q - log_p)).sum(1)

    def closed_form(log_p, log_q):
        q = log_q.exp()
        return (q * (log_q - log_p)).sum(1), log_p.exp() - q

    def trl(student, teacher, labels):
        log_p, log_q = log_probabilities(student, teacher)
        return batch_mean(F.kl_div(log_p, log_q, reduction="none", log_target=True))

    return divergence("forward-kl", "forward-kl", "KL(q, p)", rows, closed_form, trl=trl, liger_jsd=0.0, exact_rows=True)


def reverse_kl():
    def rows(xp, log_p, log_q):
        return (xp.exp(log_p) * (log_p - log_q)).sum(1)

    def closed_form(log_p, log_q):
        p, ratio = log_p.exp(), log_p - log_q
        loss = (p * ratio).sum(1)
        return loss, p * (ratio - loss[:, None])

    def trl(student, teacher, labels):
        log_p, log_q = log_probabilities(student, teacher)
        return batch_mean(F.kl_div(log_q, log_p, reduction="none", log_target=True))

    return divergence("reverse-kl", "reverse-kl", "KL(p, q)", rows, closed_form, trl=trl, liger_jsd=1.0)


def jsd(beta=0.5):
    log_beta, log_rest = math.log(beta), math.log1p(-beta)

    def rows(xp, log_p, log_q):
        log_m = xp.logaddexp(log_q + log_beta, log_p + log_rest)
        of_teacher = (xp.exp(log_q) * (log_q - log_m)).sum(1)
        of_student = (xp.exp(log_p) * (log_p - log_m)).sum(1)
        return beta * of_teacher + (1 - beta) * of_student

    def closed_form(log_p, log_q):
        p, q = log_p.exp(), log_q.exp()
        # The bound keeps the logarithm finite where both probabilities are 0 in f32.
        log_m = (beta * q + (1 - beta) * p).clamp(min=1e-37).log()
        ratio = log_p - log_m
        of_teacher, of_student = (q * (log_q - log_m)).sum(1), (p * ratio).sum(1)
        return beta * of_teacher + (1 - beta) * of_student, (1 - beta) * p * (ratio - of_student[:, None])

    def trl(student, teacher, labels):
        log_p, log_q = log_probabilities(student, teacher)
        log_m = torch.logsumexp(torch.stack([log_p + log_rest, log_q + log_beta]), dim=0)
        of_teacher = F.kl_div(log_m, log_q, reduction="none", log_target=True)
        of_student = F.kl_div(log_m, log_p, reduction="none", log_target=True)
        return batch_mean(beta * of_teacher + (1 - beta) * of_student)

    name = "jsd" if beta == 0.5 else f"jsd:{beta:g}"
    formula = f"JSD with beta {beta:g}"
    return divergence(name, f"jsd:{beta:g}", formula, rows, closed_form, trl=trl, liger_jsd=beta, matrices=12)


def total_variation():
    def rows(xp, log_p, log_q):
        return abs(xp.exp(log_p) - xp.exp(log_q)).sum(1) / 2

    def closed_form(log_p, log_q):
        p = log_p.exp()
        difference = p - log_q.exp()
        sign = difference.sign()
        mean_sign = (p * sign).sum(1, keepdim=True)
        return difference.abs().sum(1) / 2, p * (sign - mean_sign) / 2

    def slack(student, teacher):
        """A sign that rounding may turn changes its own element, and the mean sign in all elements of its row."""
        p, q = F.softmax(student, dim=1), F.softmax(teacher, dim=1)
        tied = (p - q).abs() <= 1e-5 * torch.maximum(p, q)
        return p * (tied + (p * tied).sum(1, keepdim=True))

    return divergence("total-variation", "total-variation", "sum abs(p - q) / 2", rows, closed_form, slack=slack)


LOSSES = {"method": method, "forward-kl": forward_kl, "reverse-kl": reverse_kl, "jsd": jsd, "total-variation": total_variation}


def parse(text):
    """The loss of this name. `jsd:0.1` is the Jensen-Shannon divergence with another `beta` than 0.5."""
    name, _, number = text.partition(":")
    if name not in LOSSES or (number and name != "jsd"):
        raise ValueError(f"no loss {text!r}; one of {', '.join(LOSSES)}, or jsd:BETA")
    if not number:
        return LOSSES[name]()
    beta = float(number)
    if not 0 < beta < 1:
        raise ValueError(f"{text!r}: beta is a number between 0 and 1")
    return jsd(beta)
