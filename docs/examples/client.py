#!/usr/bin/env python3
"""A client of hydra.v1 written from docs/protocol.md alone: a chat and a worker in one file.

    python3 -m venv venv && venv/bin/pip install msgpack websockets pynacl blake3 numpy
    venv/bin/python client.py work alice --tasks 2                  # train two tasks, earn credits
    venv/bin/python client.py chat alice "What is a token?"         # balance, answer as it is drawn, balance
    venv/bin/python client.py chat alice                            # the balance alone

The worker really trains: the model's forward and backward pass and AdamW, in plain numpy, on the windows that the task
draws, about as fast as one would expect of that. It comes back after a lost connection and delivers again what was not
answered; a task that was in training when the connection broke is dropped. The key is made on first use and lies in
USER.key, or where --key says.
"""

import argparse
import contextlib
import os
import random
import secrets
import sys
import time
from pathlib import Path

import msgpack
import numpy as np
from blake3 import blake3
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import connect

FRAME, CHUNK, MICROS = 1 << 20, 128 * 1024, 1_000_000
HOPELESS = {"protocol", "bad_proof", "name_taken", "removed"}


def digest(data):
    return blake3(data).digest()


def hyd(micros):
    return f"{micros / MICROS:g} HYD"


def shown(text):
    """Text of a peer, without the control characters that could play with a terminal."""
    return "".join(c for c in text if c.isprintable() or c in "\n\t")


class Refused(Exception):
    """The coordinator does not want this client; coming back is pointless."""


class Lost(Exception):
    """The connection is gone; coming back makes sense."""


class Over(Exception):
    """The coordinator has said goodbye for good: the run is complete."""


# --- Sessions ---------------------------------------------------------------------------------------------------------


def load_key(path):
    try:
        return SigningKey(bytes.fromhex(path.read_text().split()[-1]))
    except FileNotFoundError:
        key = SigningKey.generate()
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"hydra-ed25519 {bytes(key).hex()}\n")
        return key


class Session:
    """One connection, open from the end of the handshake on; blobs that arrive are put together in `blobs`."""

    def __init__(self, url, user, key, role, **hello):
        self.blobs, self.coming, self.closing = {}, {}, contextlib.ExitStack()
        try:
            # Without a bound on the queue, pings are answered while the main thread computes.
            socket = connect(url, compression=None, max_size=FRAME, max_queue=None, ping_timeout=30)
            self.socket = self.closing.enter_context(socket)
        except (OSError, TimeoutError, InvalidHandshake) as error:
            raise Lost(f"{url}: {error}") from error
        nonce, own = secrets.token_bytes(32), bytes(key.verify_key)
        hello |= {"protocol": "hydra.v1", "role": role, "user": user, "key": own, "nonce": nonce, "agent": "client.py"}
        self.send("hello", **hello)
        challenge = self.expect("challenge")
        both = challenge["key"] + own + challenge["nonce"] + nonce
        try:
            VerifyKey(challenge["key"]).verify(b"hydra.v1 coordinator" + both, challenge["signature"])
        except BadSignatureError as error:
            raise Refused("the coordinator could not prove its own key") from error
        statement = b"hydra.v1 client" + both + role.encode() + user.encode()
        self.send("proof", signature=key.sign(statement).signature)
        self.welcome = self.expect("welcome")

    def send(self, kind, **fields):
        try:
            self.socket.send(msgpack.packb({kind: fields}))
        except ConnectionClosed as error:
            raise Lost(str(error)) from error

    def send_blob(self, name, data):
        for offset in range(0, len(data), CHUNK):
            self.send("chunk", blob=name, offset=offset, data=data[offset : offset + CHUNK])

    def await_blob(self, name, size):
        if name not in self.blobs:
            self.coming[name] = (size, bytearray())

    def receive(self, timeout=None):
        """The next message that is no chunk; nothing if none comes in time."""
        while True:
            try:
                ((kind, fields),) = msgpack.unpackb(self.socket.recv(timeout)).items()
            except TimeoutError:
                return None
            except ConnectionClosed as error:
                raise Lost(str(error)) from error
            if kind == "chunk":
                if self.take_chunk(fields):
                    return ("blob", fields)
            elif kind == "error" and fields["fatal"]:
                raise (Refused if fields["code"] in HOPELESS else Lost)(shown(fields["text"]))
            elif kind == "bye":
                raise (Lost if fields["retry"] else Over)(shown(fields["text"]))
            else:
                return kind, fields

    def take_chunk(self, chunk):
        name = chunk["blob"]
        if name not in self.coming:
            return False
        size, data = self.coming[name]
        if chunk["offset"] != len(data) or len(data) + len(chunk["data"]) > size:
            raise Lost("a chunk is missing, repeated or too long")
        data += chunk["data"]
        if len(data) < size:
            return False
        del self.coming[name]
        if digest(bytes(data)) != name:
            raise Lost("a blob does not match its digest")
        self.blobs[name] = bytes(data)
        return True

    def expect(self, *kinds):
        while True:
            kind, fields = self.receive()
            if kind in kinds:
                return fields
            if kind == "error":
                raise Lost(shown(fields["text"]))

    def leave(self):
        self.send("bye", text="finished")
        self.closing.close()


# --- Chat -------------------------------------------------------------------------------------------------------------


def chat(url, user, key, prompt, settings):
    session = Session(url, user, key, "chat")
    session.send("balance")
    balance = session.expect("balance")
    print(f"{user} has {hyd(balance['balance'])}", file=sys.stderr)
    if prompt is not None:
        ask(session, prompt, settings)
    session.leave()


def ask(session, prompt, settings):
    query = secrets.token_bytes(16)
    session.send("query", id=query, prompt=prompt, **settings)
    while True:
        kind, fields = session.receive()
        if kind == "piece" and fields["id"] == query:
            print(shown(fields["text"]), end="", flush=True)
        elif kind == "answer" and fields["id"] == query:
            print()
            print(f"version {fields['version']}, {fields['tokens']} tokens ({fields['finish']}), charged "
                  f"{hyd(fields['charged'])}, left {hyd(fields['balance'])}", file=sys.stderr)
            return
        elif kind == "refused" and fields["id"] == query:
            raise Refused(f"{fields['code']}: {shown(fields['text'])}")
        elif kind == "error":
            raise Refused(shown(fields["text"]))


# --- Codecs -----------------------------------------------------------------------------------------------------------


# Bytes of a full block of 128 numbers, and the largest integer.
INTEGERS = {"int8": (130, 127), "int4": (66, 7)}
# Numbers kept of a block of 4,096, and the low bits of a gap.
SPARSE = {"sparse256": (256, 3), "sparse64": (64, 5)}
CODECS = {"f32", "bf16", *INTEGERS, *SPARSE}


def encode(codec, values):
    values = values.astype("<f4")
    if codec == "f32":
        return values.tobytes()
    if codec == "bf16":
        bits = values.view("<u4").astype(np.uint64)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()
    if codec in SPARSE:
        blocks = (values[at : at + 4096] for at in range(0, len(values), 4096))
        return b"".join(encode_sparse(block, *SPARSE[codec]) for block in blocks)
    largest = INTEGERS[codec][1]
    padded = np.zeros(-(-len(values) // 128) * 128, np.float32)
    padded[: len(values)] = values
    blocks = padded.reshape(-1, 128)
    top = np.minimum(np.abs(blocks).max(1, keepdims=True) / largest, 65504)
    scales = top.astype("<f2")
    wide = scales.astype(np.float32)
    steps = np.divide(blocks, wide, out=np.zeros_like(blocks), where=wide > 0)
    packed = np.clip(np.rint(steps), -largest, largest).astype(np.int8).view(np.uint8)
    if codec == "int4":
        packed = packed[:, 0::2] & 15 | packed[:, 1::2] << 4
    rows = np.concatenate([scales.view(np.uint8).reshape(-1, 2), packed], axis=1)
    return rows.tobytes()[: integers_length(codec, len(values))]


def decode(codec, data, n):
    if codec not in CODECS:
        raise Refused(f"this client does not know the codec {shown(codec)}")
    if codec in SPARSE:
        return decode_sparse(data, n, *SPARSE[codec])
    if len(data) != {"f32": 4 * n, "bf16": 2 * n}.get(codec) and len(data) != integers_length(codec, n):
        raise Lost("a blob has the wrong size for the model")
    if codec == "f32":
        return np.frombuffer(data, "<f4").copy()
    if codec == "bf16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    blocks, row = -(-n // 128), INTEGERS[codec][0]
    rows = np.frombuffer(data.ljust(row * blocks, b"\0"), np.uint8).reshape(blocks, row)
    scales = rows[:, :2].copy().view("<f2").astype(np.float32)
    integers = rows[:, 2:].view(np.int8)
    if codec == "int4":
        # Up and arithmetically down again spreads the four-bit sign.
        integers = np.stack([integers << 4 >> 4, integers >> 4], axis=2).reshape(blocks, 128)
    return (scales * integers.astype(np.float32)).reshape(-1)[:n]


def integers_length(codec, n):
    if codec not in INTEGERS:
        return None
    rest = n % 128
    return n // 128 * INTEGERS[codec][0] + (2 + (rest if codec == "int8" else (rest + 1) // 2) if rest else 0)


def kept(keep, block):
    return -(-keep * block // 4096)


def encode_sparse(block, keep, low):
    """One block: the greatest magnitudes, each as the mean of the larger or of the smaller ones."""
    sizes = np.abs(block)
    places = np.sort(np.argsort(-sizes, kind="stable")[: kept(keep, len(block))])
    high = sizes[places] >= sizes[places].mean()
    # In order even where rounding made equal sizes' mean greater than each of them.
    means = [sizes[places][side].mean() if side.any() else sizes[places].mean() for side in (~high, high)]
    levels = np.minimum(sorted(means), 65504).astype("<f2")
    bits = []
    for gap, negative, larger in zip(np.diff(places, prepend=-1) - 1, block[places] < 0, high):
        bits += [1] * (gap >> low) + [0] + [gap >> bit & 1 for bit in range(low)] + [negative, larger]
    return levels.tobytes() + np.packbits(np.array(bits, np.uint8), bitorder="little").tobytes()


def decode_sparse(data, n, keep, low):
    values, at = np.zeros(n, np.float32), 0
    try:
        for start in range(0, n, 4096):
            block = values[start : start + 4096]
            count = kept(keep, len(block))
            most = 4 + -(-(count * (3 + low) + (len(block) - count >> low)) // 8)
            levels = np.frombuffer(data[at : at + 4], "<f2").astype(np.float32)
            bits = np.unpackbits(np.frombuffer(data[at + 4 : at + most], np.uint8), bitorder="little").tobytes()
            bit, place = 0, -1
            for _ in range(count):
                zero = bits.index(0, bit)
                gap = (zero - bit << low) + sum(bits[zero + 1 + i] << i for i in range(low))
                negative, high = bits[zero + 1 + low], bits[zero + 2 + low]
                place += 1 + gap
                block[place] = -levels[high] if negative else levels[high]
                bit = zero + 3 + low
            at += 4 + -(-bit // 8)
    except (IndexError, ValueError) as error:
        raise Lost("a blob is not of its codec's form") from error
    if at != len(data):
        raise Lost("a blob has the wrong size for the model")
    return values


# --- The model --------------------------------------------------------------------------------------------------------


def layout(shape):
    d, f, head = shape["width"], shape["ffn"], shape["width"] // shape["heads"]
    yield "embed", (shape["vocab"], d)
    for layer in range(shape["layers"]):
        for part in "qkvo":
            yield f"{part}{layer}", (d, d)
        yield from ((f"gate{layer}", (f, d)), (f"up{layer}", (f, d)), (f"down{layer}", (d, f)))
    for layer in range(shape["layers"]):
        yield from ((f"norm1{layer}", (d,)), (f"qn{layer}", (head,)), (f"kn{layer}", (head,)), (f"norm2{layer}", (d,)))
    yield "norm", (d,)


def views(shape, flat):
    """The tensors by name, as views of the flat vector."""
    tensors, at = {}, 0
    for name, size in layout(shape):
        tensors[name] = flat[at : at + int(np.prod(size))].reshape(size)
        at += tensors[name].size
    return tensors


def parameters(shape):
    return sum(int(np.prod(size)) for _, size in layout(shape))


def rms(x, gain):
    scale = 1 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(1e-6))
    return x * scale * gain, (x * scale, scale, gain)


def rms_back(dy, kept):
    y, scale, gain = kept
    dgain = (dy * y).reshape(-1, len(gain)).sum(0)
    dy = dy * gain
    return scale * (dy - y * np.mean(dy * y, axis=-1, keepdims=True)), dgain


def rope(x, cos, sin):
    a, b = np.split(x, 2, axis=-1)
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def gradient(shape, w, tokens):
    """Mean loss over windows `[batch, context + 1]` in nats, and its gradient as a flat vector."""
    heads, d = shape["heads"], shape["width"]
    h, (batch, length) = d // heads, (tokens.shape[0], tokens.shape[1] - 1)
    inputs, targets = tokens[:, :-1].reshape(-1), tokens[:, 1:].reshape(-1)
    angle = np.arange(length)[:, None] * 10_000.0 ** (-np.arange(h // 2) / (h // 2))
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    later = np.triu(np.full((length, length), -np.inf, np.float32), 1)

    def split(x):
        return x.reshape(batch, length, heads, h).transpose(0, 2, 1, 3)

    def join(x):
        return x.transpose(0, 2, 1, 3).reshape(-1, d)

    x, kept = w["embed"][inputs], []
    for i in range(shape["layers"]):
        n1, c1 = rms(x, w[f"norm1{i}"])
        qn, cq = rms(split(n1 @ w[f"q{i}"].T), w[f"qn{i}"])
        kn, ck = rms(split(n1 @ w[f"k{i}"].T), w[f"kn{i}"])
        q, k, v = rope(qn, cos, sin), rope(kn, cos, sin), split(n1 @ w[f"v{i}"].T)
        scores = q @ k.swapaxes(-1, -2) / np.float32(np.sqrt(h)) + later
        p = np.exp(scores - scores.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        a = join(p @ v)
        x = x + a @ w[f"o{i}"].T
        n2, c2 = rms(x, w[f"norm2{i}"])
        gate, up = n2 @ w[f"gate{i}"].T, n2 @ w[f"up{i}"].T
        s = 1 / (1 + np.exp(-gate))
        x = x + (gate * s * up) @ w[f"down{i}"].T
        kept.append((n1, c1, cq, ck, q, k, v, p, a, n2, c2, gate, up, s))
    y, c = rms(x, w["norm"])
    logits = y @ w["embed"].T
    logits -= logits.max(1, keepdims=True)
    likely = np.exp(logits)
    total = likely.sum(1, keepdims=True)
    rows = np.arange(len(targets))
    loss = float(np.mean(np.log(total[:, 0]) - logits[rows, targets]))

    flat = np.zeros(parameters(shape), np.float32)
    g = views(shape, flat)
    dlogits = likely / total
    dlogits[rows, targets] -= 1
    dlogits /= len(targets)
    g["embed"] += dlogits.T @ y
    dx, g["norm"][:] = rms_back(dlogits @ w["embed"], c)
    for i in reversed(range(shape["layers"])):
        n1, c1, cq, ck, q, k, v, p, a, n2, c2, gate, up, s = kept[i]
        g[f"down{i}"] += dx.T @ (gate * s * up)
        dact = dx @ w[f"down{i}"]
        dgate, dup = dact * up * s * (1 + gate * (1 - s)), dact * gate * s
        g[f"gate{i}"] += dgate.T @ n2
        g[f"up{i}"] += dup.T @ n2
        back, g[f"norm2{i}"][:] = rms_back(dgate @ w[f"gate{i}"] + dup @ w[f"up{i}"], c2)
        dx = dx + back
        g[f"o{i}"] += dx.T @ a
        da = split(dx @ w[f"o{i}"])
        dv, dp = p.swapaxes(-1, -2) @ da, da @ v.swapaxes(-1, -2)
        dscores = p * (dp - (dp * p).sum(-1, keepdims=True)) / np.float32(np.sqrt(h))
        dq, g[f"qn{i}"][:] = rms_back(rope(dscores @ k, cos, -sin), cq)
        dk, g[f"kn{i}"][:] = rms_back(rope(dscores.swapaxes(-1, -2) @ q, cos, -sin), ck)
        dn1 = 0
        for part, dpart in (("q", join(dq)), ("k", join(dk)), ("v", join(dv))):
            g[f"{part}{i}"] += dpart.T @ n1
            dn1 = dn1 + dpart @ w[f"{part}{i}"]
        back, g[f"norm1{i}"][:] = rms_back(dn1, c1)
        dx = dx + back
    np.add.at(g["embed"], inputs, dx)
    return loss, flat


class AdamW:
    """The optimiser; its moments stay from task to task."""

    def __init__(self, shape, recipe):
        self.recipe, self.steps = recipe, 0
        self.m, self.v = (np.zeros(parameters(shape), np.float32) for _ in range(2))
        matrices = sum(int(np.prod(size)) for _, size in layout(shape) if len(size) == 2)
        self.decayed = np.arange(parameters(shape)) < matrices

    def step(self, w, g, rate):
        r, self.steps = self.recipe, self.steps + 1
        if r["clip"] > 0:
            g = g * np.float32(min(1, r["clip"] / (np.linalg.norm(g) + 1e-6)))
        self.m += np.float32(1 - r["beta1"]) * (g - self.m)
        self.v += np.float32(1 - r["beta2"]) * (g * g - self.v)
        w *= 1 - np.float32(rate * r["weight_decay"]) * self.decayed
        m, v = self.m / (1 - r["beta1"] ** self.steps), self.v / (1 - r["beta2"] ** self.steps)
        w -= np.float32(rate) * m / (np.sqrt(v) + np.float32(1e-8))


def windows(task):
    """Where each step's windows begin, step after step."""
    mask, state, bound = 2**64 - 1, task["seed"], task["shard_tokens"] - task["context"]
    for _ in range(task["steps"]):
        starts = []
        for _ in range(task["batch"]):
            state = (state + 0x9E3779B97F4A7C15) & mask
            z = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & mask
            z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
            starts.append((z ^ z >> 31) * bound >> 64)
        yield starts


# --- Worker -----------------------------------------------------------------------------------------------------------


class Worker:
    def __init__(self, url, user, key, tasks):
        self.url, self.user, self.key, self.left = url, user, key, tasks
        self.worker = secrets.token_bytes(8)
        self.session, self.model, self.shards = None, None, {}
        self.version, self.weights = None, None
        self.announced, self.task, self.revoked, self.unanswered = [], None, None, {}
        self.paid = False

    def run(self):
        wait = 0.25
        while self.left:
            begun, self.paid = None, False
            try:
                self.open()
                begun = time.monotonic()
                while self.left:
                    self.handle(*self.session.receive())
                    self.advance()
                return self.session.leave()
            except Lost as error:
                if self.session:
                    self.session.closing.close()
                if self.paid or begun is not None and time.monotonic() - begun >= 2:
                    wait = 0.25
                pause = wait * random.uniform(0.5, 1)
                wait = min(2 * wait, 15)
                print(f"disconnected ({error}); again in {pause:.1f} s", file=sys.stderr)
                time.sleep(pause)

    def open(self):
        self.announced, self.task, hello = [], None, {}
        if self.version is not None:
            hello["holds"] = {"version": self.version, "digest": digest(self.weights.tobytes())}
        self.session = Session(self.url, self.user, self.key, "worker", worker=self.worker, device="numpy", **hello)
        welcome = self.session.welcome
        if self.model != (welcome["shape"], welcome["recipe"]):
            self.model = (welcome["shape"], welcome["recipe"])
            self.adam, self.residual = AdamW(*self.model), np.zeros(parameters(self.model[0]), np.float32)
        print(f"{self.user} has {hyd(welcome['balance'])}; a task pays {hyd(welcome['reward'])}", file=sys.stderr)
        for update, data in list(self.unanswered.values()):
            self.session.send("update", **update)
            self.session.send_blob(update["blob"], data)
        if len(self.unanswered) >= self.left:
            self.session.send("ready", accepting=False)

    def handle(self, kind, fields):
        if kind == "version":
            if fields["bytes"] > 4 * parameters(self.model[0]):
                raise Lost("a version is larger than its model")
            self.session.await_blob(fields["blob"], fields["bytes"])
            self.announced.append(fields)
        elif kind == "task" and (self.task or len(self.unanswered) >= self.left):
            # Pushed before our `ready` false was read.
            self.session.send("release", lease=fields["lease"], text="no further task is wanted")
        elif kind == "task" and fields["codec"] not in CODECS:
            text = f"this client does not know the codec {fields['codec']}"
            print(f"task {fields['task']} given back: {shown(text)}", file=sys.stderr)
            self.session.send("release", lease=fields["lease"], text=text[:200])
        elif kind == "task":
            self.task = fields
            if fields["shard"] not in self.shards:
                self.session.await_blob(fields["shard"], 2 * fields["shard_tokens"])
                self.session.send("fetch", shard=fields["shard"])
        elif kind == "revoked":
            self.revoked = fields["lease"]
            if self.task and self.task["lease"] == fields["lease"]:
                self.task = None
            print(f"task {fields['task']} revoked: {shown(fields['text'])}", file=sys.stderr)
        elif kind == "credited":
            if self.unanswered.pop(fields["lease"], None):
                self.left, self.paid = self.left - 1, True
                print(f"task {fields['task']} credited: {hyd(fields['amount'])}, balance {hyd(fields['balance'])}")
        elif kind == "unpaid":
            if self.unanswered.pop(fields["lease"], None):
                print(f"task {fields['task']} unpaid: {fields['code']}: {shown(fields['text'])}")
                self.session.send("ready", accepting=True)
        elif kind == "error":
            print(f"error {fields['code']}: {shown(fields['text'])}", file=sys.stderr)

    def advance(self):
        """Installs versions up to the task's, and does the task when its version and shard are there."""
        blobs, task = self.session.blobs, self.task
        while self.announced and self.announced[0]["blob"] in blobs:
            if task and self.version == task["version"]:
                break
            self.install(self.announced.pop(0))
        if not task:
            return
        if task["shard"] in blobs:
            self.shards[task["shard"]] = np.frombuffer(blobs.pop(task["shard"]), "<u2")
        if self.version == task["version"] and task["shard"] in self.shards:
            adam = self.adam.m.copy(), self.adam.v.copy(), self.adam.steps
            try:
                self.train(task)
            finally:
                if task["lease"] not in self.unanswered:
                    # Given up half way, or lost with its session.
                    self.adam.m, self.adam.v, self.adam.steps = adam

    def install(self, version):
        values = decode(version["codec"], self.session.blobs.pop(version["blob"]), parameters(self.model[0]))
        base = version.get("base")
        if base is not None and base != self.version:
            raise Lost("a difference to a version that is not here")
        self.weights = values if base is None else self.weights + values
        self.version = version["version"]
        if digest(self.weights.tobytes()) != version["digest"]:
            self.version = None
            raise Lost("the weights differ from the coordinator's")

    def train(self, task):
        (shape, _), shard, losses, begun = self.model, self.shards[task["shard"]], [], time.monotonic()
        if shard.max() >= shape["vocab"]:
            raise Refused("a shard holds a token that the model does not have")
        weights = self.weights.copy()
        tensors, per_step, due = views(shape, weights), task["batch"] * task["context"], begun
        for i, starts in enumerate(windows(task)):
            tokens = np.stack([shard[at : at + task["context"] + 1] for at in starts])
            loss, g = gradient(shape, tensors, tokens)
            along = i / max(task["steps"] - 1, 1)
            self.adam.step(weights, g, task["lr_start"] * (1 - along) + task["lr_end"] * along)
            losses.append(loss)
            now = time.monotonic()
            if now >= due or i + 1 == task["steps"]:
                due, speed = now + 0.5, (i + 1) * per_step / (now - begun)
                self.session.send("progress", lease=task["lease"], step=i + 1, loss=loss, tokens_per_s=speed)
            while message := self.session.receive(timeout=0):
                self.handle(*message)
            if self.revoked == task["lease"]:
                return
        seconds, tenth = time.monotonic() - begun, max(task["steps"] // 10, 1)
        print(f"task {task['task']} from version {task['version']}: loss {losses[0]:.4f} to {losses[-1]:.4f} "
              f"in {seconds:.1f} s", file=sys.stderr)
        delta = self.weights - weights + self.residual
        data = encode(task["codec"], delta)
        self.residual = delta - decode(task["codec"], data, len(delta))
        update = {key: task[key] for key in ("lease", "version", "codec", "steps")} | {
            "tokens": task["steps"] * per_step,
            "blob": digest(data),
            "bytes": len(data),
            "loss_first": float(np.mean(losses[:tenth])),
            "loss_last": float(np.mean(losses[-tenth:])),
            "train_ms": round(seconds * 1000),
            "more": len(self.unanswered) + 1 < self.left,
        }
        self.unanswered[task["lease"]] = (update, data)
        self.task = None
        self.session.send("update", **update)
        self.session.send_blob(update["blob"], data)


def main():
    parser = argparse.ArgumentParser(description="An example client of HydraAI's protocol hydra.v1.")
    parser.add_argument("role", choices=["work", "chat"])
    parser.add_argument("user")
    parser.add_argument("prompt", nargs="?")
    parser.add_argument("--url", default="ws://127.0.0.1:5000/ws")
    parser.add_argument("--key", type=Path)
    parser.add_argument("--tasks", type=int, default=1)
    parser.add_argument("--max-new-tokens", type=int)
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--seed", type=int)
    args = parser.parse_args()
    key = load_key(args.key or Path(f"{args.user}.key"))
    try:
        if args.role == "work":
            Worker(args.url, args.user, key, args.tasks).run()
        else:
            settings = {name: getattr(args, name) for name in ("max_new_tokens", "temperature", "seed")}
            chat(args.url, args.user, key, args.prompt, {k: v for k, v in settings.items() if v is not None})
    except Over as over:
        print(f"the coordinator has said goodbye: {over}", file=sys.stderr)
        # A worker has done its part; a question is without its answer.
        sys.exit(args.role == "chat")
    except (Refused, Lost) as error:
        sys.exit(f"{type(error).__name__.lower()}: {error}")


if __name__ == "__main__":
    main()
