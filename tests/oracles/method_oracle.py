"""Writes tests/adapters/fixtures/method_steps.json: five AdamW steps of every method in float64.

The setting is one_layer.py's; a method is its leaves, its effective weight and what it adds to the
loss. Written from the formulas, not from Drystone's code.
Run: .venv/bin/python tests/oracles/method_oracle.py   (needs torch)
"""
import math

import one_layer
import torch
from one_layer import A, B, DECAY, LABELS, RANK, RATE, SCALE, STEPS, W, X
from torch.nn.functional import cross_entropy, log_softmax

MASK = 2**64 - 1


class Stream:
    """Drystone's keyed draws: FNV-1a over (seed, round, client, purpose), then SplitMix64."""

    def __init__(self, purpose, seed=5, round_=0, client=""):
        h = 0xCBF29CE484222325
        words = [seed.to_bytes(8, "little"), round_.to_bytes(8, "little")]
        for part in (client.encode(), purpose.encode()):
            words += [len(part).to_bytes(8, "little"), part]
        for byte in b"".join(words):
            h = (h ^ byte) * 0x100000001B3 & MASK
        self.state = h
        self.state = self.draw()

    def draw(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
        z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
        return z ^ z >> 31

    def uniform(self):
        return (self.draw() >> 11) * 2.0**-53

    def normal(self, *shape):
        def one():
            radius = math.sqrt(-2 * math.log1p(-self.uniform()))
            return radius * math.cos(2 * math.pi * self.uniform())
        values = torch.tensor([one() for _ in range(math.prod(shape))])
        return values.to(torch.float32).to(torch.float64).view(shape)


class Adam:
    def __init__(self, leaves, decay):
        self.m = {n: torch.zeros_like(p) for n, p in leaves.items()}
        self.v = {n: torch.zeros_like(p) for n, p in leaves.items()}
        self.decay, self.t = decay, 0

    def step(self, leaves, gradients):
        self.t += 1
        for n, g in gradients.items():
            self.m[n] = 0.9 * self.m[n] + 0.1 * g
            self.v[n] = 0.999 * self.v[n] + 0.001 * g * g
            m, v = self.m[n] / (1 - 0.9**self.t), self.v[n] / (1 - 0.999**self.t)
            eps = 1e-6 if n == "lora_gate" else 1e-8
            leaves[n].data.mul_(1 - RATE * self.decay.get(n, DECAY)).sub_(RATE * m / (v.sqrt() + eps))


def case(name, method, leaves, weight, extra=lambda p, z, t: 0.0, after=lambda p: None, options={},
         decay={}, before=lambda p, t, adam: None, base=W):
    p = {n: v.clone().requires_grad_(True) for n, v in leaves.items()}
    adam = Adam(p, decay)
    for t in range(STEPS):
        before(p, t, adam)
        logits = X @ weight(p).T
        loss = cross_entropy(logits, LABELS) + extra(p, logits, t)
        gradients = torch.autograd.grad(loss, list(p.values()))
        adam.step(p, dict(zip(p, gradients)))
        after(p)
    one_layer.add_case(name, method, options, weight(p) - base, leaves, p)


def pissa():
    a0, b0 = one_layer.pissa_start()
    leaves = {"lora_A": a0, "lora_B": b0}
    return leaves, lambda p: W - SCALE * b0 @ a0 + SCALE * p["lora_B"] @ p["lora_A"]


def ba_lora_2026(p, z, t):
    warm, k, temperature = 1, 5, 2.0
    z0 = X @ W.T
    log0, log = log_softmax(z0 / temperature, -1), log_softmax(z / temperature, -1)
    consistency = temperature**2 * (log0.exp() * (log0 - log)).sum(-1).mean()
    sigma = positive_singular_values(z)
    ramp = min(max(t - warm, 0), 1)
    course = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * t / STEPS))
    return (0.15 * course * consistency + 0.03 * ramp * decorrelation(z)
            - 0.03 * ramp * sigma[:k].sum() / sigma.sum())


def ba_lora_2024(p, z, t):
    z0, sigma = X @ W.T, positive_singular_values(z)
    unit = lambda x: x / x.norm(dim=-1, keepdim=True)
    distance = (unit(z) - unit(z0)).square().mean()
    return 0.5 * distance + 0.3 * decorrelation(z) - 0.2 * sigma[:3].sum() / sigma.sum()


def positive_singular_values(z):
    """Z = X·Wᵀ has rank 5 of 6 here: no gradient through a value that is zero."""
    sigma = torch.linalg.svdvals(z)
    return sigma[sigma > 1e-8 * sigma.max()]


def decorrelation(z):
    c = torch.cov(z.T)
    return (c.square().sum() - c.diagonal().square().sum()) / len(c)


def lora(p):
    return W + SCALE * p["lora_B"] @ p["lora_A"]


def off_identity(m):
    return torch.linalg.norm(m - torch.eye(len(m)))


def kasa_terms(p, sigma_name, beta, gamma, reference):
    a, b, sigma = p["lora_A"], p["lora_B"], p[sigma_name]
    orthogonality = (off_identity(a.T @ a) + off_identity(b @ b.T) if reference
                     else off_identity(b.T @ b) + off_identity(a @ a.T))
    return beta * sigma.square().sum() + gamma * orthogonality


def kasa():
    u, s, vt = torch.linalg.svd(W, full_matrices=False)
    truncated = (u[:, :-RANK] * s[:-RANK]) @ vt[:-RANK]
    diagonal = lambda p: truncated + SCALE * p["lora_B"] * p["lora_sigma"] @ p["lora_A"]
    full = lambda p: truncated + SCALE * p["lora_B"] @ p["lora_sigma"] @ p["lora_A"]
    ab = {"lora_A": A, "lora_B": B}
    case("kasa", "kasa", ab | {"lora_sigma": torch.tensor([0.7, -1.2])}, diagonal,
         lambda p, z, t: kasa_terms(p, "lora_sigma", 0.02, 0.05, False),
         options={"beta": 0.02, "gamma": 0.05})
    case("kasa full", "kasa", ab | {"lora_sigma": torch.tensor([[0.7, 0.1], [0.0, -1.2]])}, full,
         lambda p, z, t: kasa_terms(p, "lora_sigma", 0.02, 0.05, True),
         options={"beta": 0.02, "gamma": 0.05, "core": "full", "orthogonality": "reference",
                  "reduction": "mean"})


def sora():
    gate = torch.tensor([0.031, -0.9])

    def soft(p):
        g = p["lora_gate"].data
        g.copy_(g.sign() * (g.abs() - 0.02).clamp_min(0))

    def reference(p):
        g = p["lora_gate"].data
        g[g > 0.02] -= 0.02
        g[g < -0.02] += 0.02
        g[g.abs() < 0.02] = 0

    for name, prox in (("soft", soft), ("reference", reference)):
        case(f"sora {name}", "sora", {"lora_A": A, "lora_B": B, "lora_gate": gate},
             lambda p: W + SCALE * p["lora_B"] * p["lora_gate"] @ p["lora_A"],
             lambda p, z, t: 0.3 * p["lora_gate"].abs().mean(), prox,
             options={"lambda": 0.3, "xi": 0.02, "over": "step", "prox": name}, decay={"lora_gate": 0.0})


def sbora():
    picked = {}
    for name, size in (("fa", 5), ("fb", 6)):
        stream, order = Stream("sbora-index/query"), list(range(size))
        for i in range(RANK):
            j = i + stream.draw() % (size - i)
            order[i], order[j] = order[j], order[i]
        picked[name] = torch.eye(size)[order[:RANK]]
    case("sbora-fa", "sbora-fa", {"lora_B": B}, lambda p: W + SCALE * p["lora_B"] @ picked["fa"])
    case("sbora-fb", "sbora-fb", {"lora_A": A}, lambda p: W + SCALE * picked["fb"].T @ p["lora_A"])


def rac_lora():
    """Two blocks: steps 0-2 and 3-4; the second starts at zero with a new sketch and new moments."""
    for side, leaf, size in (("right", "lora_B", 5), ("left", "lora_A", 6)):
        sketches = [Stream(f"rac-sketch/{b}/query").normal(RANK, size) / math.sqrt(size)
                    for b in (0, 1)]
        sketches = [s.to(torch.float32).to(torch.float64) for s in sketches]
        product = lambda x, s: SCALE * (x @ s if side == "right" else s.T @ x)
        chain = {"base": W, "sketch": sketches[0]}
        weight = lambda p: chain["base"] + product(p[leaf], chain["sketch"])

        def merge(p, t, adam):
            if t == 3:
                chain.update(base=weight(p).detach(), sketch=sketches[1])
                p[leaf].data.zero_()
                adam.__init__(p, adam.decay)
        case(f"rac-lora {side}", "rac-lora", {leaf: B if side == "right" else A}, weight,
             options={"blocks": 2, "side": side}, before=merge)


def clora():
    """The penalty depends on the spans of the directions only."""
    u = torch.linalg.qr(Stream("clora-output/query").normal(2, 6).T)[0]
    v = torch.linalg.qr(Stream("clora-input/query").normal(2, 5).T)[0]
    case("clora", "clora", {"lora_A": A, "lora_B": B}, lora,
         lambda p, z, t: 0.7 * 0.5 * ((p["lora_A"] @ v).square().sum() +
                                      (p["lora_B"].T @ u).square().sum()),
         options={"lambda": 0.7, "k": 2})


def philox(counter, key):
    """Philox4x32-10, for normals by Box-Muller."""
    low = 2**32 - 1
    for _ in range(10):
        p0, p1 = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [p1 >> 32 ^ counter[1] ^ key[0], p1 & low, p0 >> 32 ^ counter[3] ^ key[1], p0 & low]
        key = [key[0] + 0x9E3779B9 & low, key[1] + 0xBB67AE85 & low]
    return counter


def philox_normal(key, rows, columns):
    def one(i, j):
        words = philox([j // 4, i, 0, 0], [key % 2**32, key >> 32])[j % 4 // 2 * 2:]
        radius = math.sqrt(-2 * math.log((words[0] >> 1) / 2**31 + 2**-32))
        fraction = (words[1] * 4 % 2**32 + 2**31) % 2**32 - 2**31
        angle = math.pi / 2 * ((words[1] >> 30) + fraction / 2**32)
        return radius * (math.sin(angle) if j % 2 else math.cos(angle))
    return torch.tensor([[one(i, j) for j in range(columns)] for i in range(rows)])


def flat_lora():
    """rho = 0.6 on a cosine: 0 in the first step. The noise is drawn in single precision."""
    noise = {"now": 0.0}

    def draw(p, t, adam):
        sigma = 0.6 * 0.5 * (1 - math.cos(math.pi * t / STEPS))
        deviation = sigma / math.sqrt(5) * lora(p).detach().norm(dim=1, keepdim=True)
        noise["now"] = deviation * philox_normal(Stream(f"flat-noise/{t}/query").state, 6, 5)
    case("flat-lora", "flat-lora", {"lora_A": A, "lora_B": B}, lambda p: lora(p) + noise["now"],
         before=draw, after=lambda p: noise.update(now=0.0), options={"rho": 0.6})


def lora_ensemble():
    """A member: KL(model || base) and decay of B beside AdamW's own."""
    def divergence(p, z, t):
        log, log0 = log_softmax(z, -1), log_softmax(X @ W.T, -1)
        return 0.4 * (log.exp() * (log - log0)).sum(-1).mean()
    case("lora-ensemble", "lora-ensemble", {"lora_A": A, "lora_B": B}, lora, divergence,
         options={"kl": 0.4, "b_decay": 8.0},
         decay={"lora_B": DECAY + 8.0 - RATE * DECAY * 8.0})


def bilora(form):
    """Rows 0-5 are the lower level's, 6-7 the upper's; one step of each in turn."""
    leaves = {"lora_A": A, "lora_B": B, "lora_lambda": torch.tensor([0.3, -0.4])}
    p = {n: v.clone().requires_grad_(True) for n, v in leaves.items()}
    v, lower = p["lora_lambda"], ["lora_A", "lora_B"]
    weight = lambda: W + SCALE * p["lora_B"] * torch.softmax(v, 0) @ p["lora_A"]
    upper_loss = lambda: cross_entropy(X[6:] @ weight().T, LABELS[6:])
    square = lambda m: (m - torch.eye(RANK)).square().sum()
    off = square if form == "squared" else lambda m: square(m).sqrt() / 2  # the mean of two norms
    lower_loss = lambda: (cross_entropy(X[:6] @ weight().T, LABELS[:6]) + 0.1 * (
        off(p["lora_B"].T @ p["lora_B"]) + off(p["lora_A"] @ p["lora_A"].T)))
    adam, upper_adam = Adam({n: p[n] for n in lower}, {}), UpperAdam()
    for _ in range(STEPS):
        adam.step(p, dict(zip(lower, torch.autograd.grad(lower_loss(), [p[n] for n in lower]))))
        *u, direct = torch.autograd.grad(upper_loss(), [p[n] for n in lower] + [v])
        epsilon = 0.01 / (math.sqrt(sum(g.square().sum() for g in u)) + 1e-15)
        kept, sides = [p[n].detach().clone() for n in lower], []
        for sign in (1, -1):
            for n, k, g in zip(lower, kept, u):
                p[n].data.copy_(k + sign * epsilon * g)
            sides.append(torch.autograd.grad(lower_loss(), v)[0])
        for n, k in zip(lower, kept):
            p[n].data.copy_(k)
        upper_adam.step(v, direct + (sides[1] - sides[0]) / (2 * epsilon))
    one_layer.add_case(f"bilora {form}", "bilora", {"orthogonality": form}, weight() - W, leaves, p)


class UpperAdam:
    m, s, t = 0.0, 0.0, 0

    def step(self, v, g):
        self.t += 1
        self.m, self.s = 0.9 * self.m + 0.1 * g, 0.98 * self.s + 0.02 * g * g
        m, s = self.m / (1 - 0.9**self.t), self.s / (1 - 0.98**self.t)
        v.data.mul_(1 - RATE * 0.1).sub_(RATE * m / (s.sqrt() + 1e-6))


case("lora", "lora", {"lora_A": A, "lora_B": B}, lora)
case("loraprune", "loraprune", {"lora_A": A, "lora_B": B}, lora)  # its scores do not enter the step
case("pissa", "pissa", *pissa(), options={"svd": "exact"})
case("ba-lora 2026", "ba-lora", *pissa(), ba_lora_2026, options={"svd": "exact"})
case("ba-lora 2024", "ba-lora", *pissa(), ba_lora_2024,
     options={"svd": "exact", "variant": "2024", "consistency": 0.5, "diversity": 0.3,
              "spectral": 0.2})
kasa()
sora()
sbora()
rac_lora()
clora()
lora_ensemble()
bilora("squared")
bilora("adalora")
flat_lora()
one_layer.write("method_steps.json")
