"""What decision 7 and bfloat16 rest on: one adapted linear layer, forward and backward, by LibTorch's products.

    .venv/bin/python bench/product_forms.py

One thread, processor time, the least of five. "side" adds the thin products to the base's, "effective" makes
W + B·A twice; both make the thin products for A's and B's gradients. "bf16" is the base's forward product alone,
beside "fp32", the same in float32.
"""
import time

import torch

torch.set_num_threads(1)
torch.set_grad_enabled(False)
SHAPES = [(288, 288), (768, 768), (768, 2048), (2048, 2048)]


def product(x, weight):
    """models/gemm.cpp's choice."""
    if x.size(0) >= 8 and x.size(0) * weight.numel() >= 1_000_000:
        return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return torch.nn.functional.linear(x, weight)


def add_product(y, x, weight, scale):
    """models/gemm.cpp's add_product_."""
    if x.size(1) < 32:
        return y.addmm_(x, weight.t(), alpha=scale)
    rows = max((1 << 18) // y.size(1), 64)
    for part, thin in zip(y.split(rows), x.split(rows)):
        part.add_(product(thin, weight), alpha=scale)
    return y


def thin_gradients(x, a, b, gradient):
    thin, back = product(x, a), product(gradient, b.t())
    product(back.t(), x.t())
    product(thin.t(), gradient.t())
    return thin, back


def side(x, weight, a, b, gradient):
    thin, back = thin_gradients(x, a, b, gradient)
    add_product(product(x, weight), thin, b, 2.0)
    add_product(product(gradient, weight.t()), back, a.t(), 1.0)


def effective(x, weight, a, b, gradient):
    thin_gradients(x, a, b, gradient)
    product(x, product(b, a.t()).mul_(2.0).add_(weight))
    product(gradient, product(b, a.t()).mul_(2.0).add_(weight).t())


def milliseconds(function, *arguments):
    function(*arguments)
    times = []
    for _ in range(5):
        begin = time.process_time()
        function(*arguments)
        times.append(time.process_time() - begin)
    return 1e3 * min(times)


def main():
    print("| in × out | rank | tokens | side ms | effective ms | side / effective |\n|---|--:|--:|--:|--:|--:|")
    for in_size, out_size in SHAPES:
        weight = torch.randn(out_size, in_size)
        for rank in (8, 64):
            a, b = torch.randn(rank, in_size), torch.randn(out_size, rank)
            for tokens in (512, 1024, 2048):
                x, gradient = torch.randn(tokens, in_size), torch.randn(tokens, out_size)
                times = [milliseconds(form, x, weight, a, b, gradient) for form in (side, effective)]
                print(f"| {in_size} × {out_size} | {rank} | {tokens} | {times[0]:.2f} | {times[1]:.2f} "
                      f"| {times[0] / times[1]:.2f} |", flush=True)
    print("\n| in × out | tokens | fp32 ms | bf16 ms |\n|---|--:|--:|--:|")
    for in_size, out_size in SHAPES:
        x, weight = torch.randn(1024, in_size), torch.randn(out_size, in_size)
        rounded = weight.bfloat16()
        exact = milliseconds(product, x, weight)
        low = milliseconds(lambda: torch.nn.functional.linear(x.bfloat16(), rounded).float())
        print(f"| {in_size} × {out_size} | 1024 | {exact:.2f} | {low:.2f} |", flush=True)


if __name__ == "__main__":
    main()
