"""Checks of loss and gradient against float64 autograd of the loss's definition."""

import torch

import inputs
import systems as peers


class Wrong(Exception):
    """A wrong loss or gradient."""


def compare_loss(got, expected, tolerance):
    """Raises `Wrong` unless the loss is within the relative tolerance."""
    if not abs(got - expected) <= tolerance * abs(expected) + 1e-6:
        raise Wrong(f"loss {got}, expected {expected}")


#: Rounding in f32 of a gradient whose terms cancel, relative to the terms: a log-sum-exp of 20 is rounded by up to 1e-6, the student's and the
#: teacher's. Where they are nearly disjoint, as with high peaks, the gradients of JSD and total variation are far smaller than their terms, of
#: up to 1; those of the reverse KL divergence are logarithms minus their mean, the loss.
CANCELLATION = 2e-6


def compare_gradient(loss, got, expected, storage, tolerance, terms, slack):
    """Raises `Wrong` unless the gradient is within the tolerance.

    The tolerance is relative to the largest element of the row (`Loss.exact_rows`) or of all rows, plus one rounding for a 16-bit gradient,
    plus `slack` if given. Without `exact_rows` it includes the rounding of `terms` that cancel.
    """
    expected = expected.double()
    largest = expected.abs().amax(1, keepdim=True)
    allowed = tolerance * largest if loss.exact_rows else tolerance * largest.max() + CANCELLATION * terms
    if storage == "bf16":
        allowed = allowed + expected.abs() * 2**-7
    if slack is not None:
        allowed = allowed + slack
    excess = ((got.double() - expected).abs() / allowed.clamp(min=1e-300)).max().item()
    if not excess <= 1:
        raise Wrong(f"gradient off by {excess:.3g} times what is allowed")


def reference(loss, student, teacher, labels, rows):
    """The contributions of some of the `rows` rows to the mean loss and its gradient, and the gradient's slack, in f64."""
    student, teacher = student.detach().double().requires_grad_(), teacher.double()
    value = loss.definition(student, teacher, labels) * (len(student) / rows)
    (grad,) = torch.autograd.grad(value, student)
    slack = loss.slack(student.detach(), teacher) / rows if loss.slack else None
    return value.item(), grad, slack


def verify(loss, result, student, teacher, labels, storage, tolerance):
    """Compares loss and every element of the gradient. Without a gradient only the loss is compared.

    The reference is computed in row ranges, so that it fits wherever the inputs fit.
    """
    got, got_grad = result
    rows, classes = student.shape
    piece = max(1, (1 << 24) // classes)
    expected = 0.0
    for start in range(0, rows, piece):
        part = slice(start, start + piece)
        value, grad, slack = reference(loss, student[part], teacher[part], labels[part], rows)
        expected += value
        if got_grad is not None:
            terms = (1 + value * rows / len(grad)) / rows
            compare_gradient(loss, got_grad[part], grad, storage, tolerance, terms, slack)
    compare_loss(got, expected, tolerance)


def verify_small(loss, system, device, storage, seed, rows=6, classes=131):
    student, teacher = (inputs.matrix(rows, classes, s, seed, storage, device) for s in (inputs.STUDENT, inputs.TEACHER))
    labels = inputs.labels(rows, classes, seed, device)
    result = peers.fetch(system.prepare(student, teacher, labels)())
    verify(loss, result, student, teacher, labels, storage, 1e-5)
