// The parts of training between the matrix products, each in one pass over memory. Compiled at run time for the card
// at hand and for one model's sizes: W width, H heads, D numbers a head, F numbers of the MLP, V vocabulary.
// Activations are bf16, eight to a vector of 16 bytes; everything is worked out in f32. Every sum has a fixed order.

typedef unsigned short bf16;
typedef long long i64;

#define WARP 32
#define ALL 0xffffffffu
#define LANES (D / 8)            // threads that hold one head of one token
#define VECTORS (W / 8)          // vectors of a row
#define TURNS ((VECTORS + WARP - 1) / WARP)
#define EPSILON 1e-6f
#define LOWEST __int_as_float(0xff800000)  // minus infinity

struct Eight { float x[8]; };

__device__ __forceinline__ Eight load(const bf16* from) {
    const uint4 raw = *reinterpret_cast<const uint4*>(from);
    const unsigned word[4] = {raw.x, raw.y, raw.z, raw.w};
    Eight out;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        out.x[2 * i] = __uint_as_float(word[i] << 16);
        out.x[2 * i + 1] = __uint_as_float(word[i] & 0xffff0000u);
    }
    return out;
}

__device__ __forceinline__ void store(bf16* to, const Eight& from) {
    unsigned word[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word[i]) : "f"(from.x[2 * i + 1]), "f"(from.x[2 * i]));
    *reinterpret_cast<uint4*>(to) = make_uint4(word[0], word[1], word[2], word[3]);
}

__device__ __forceinline__ Eight gains(const float* from) {
    Eight out;
#pragma unroll
    for (int i = 0; i < 8; i++) out.x[i] = from[i];
    return out;
}

__device__ __forceinline__ float over(float sum, int lanes) {
    for (int step = lanes / 2; step > 0; step /= 2) sum += __shfl_xor_sync(ALL, sum, step);
    return sum;
}

// y = x / rms(x) * gain; a warp a row.
extern "C" __global__ void rms_norm(const bf16* x, const float* gain, bf16* y, float* scale, i64 rows) {
    const i64 row = (i64)blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    const int lane = threadIdx.x % WARP;
    if (row >= rows) return;
    float sum = 0;
#pragma unroll
    for (int turn = 0; turn < TURNS; turn++) {
        const int at = turn * WARP + lane;
        if (at < VECTORS) {
            const Eight a = load(x + row * W + at * 8);
#pragma unroll
            for (int i = 0; i < 8; i++) sum += a.x[i] * a.x[i];
        }
    }
    const float r = rsqrtf(over(sum, WARP) / W + EPSILON);
    if (lane == 0) scale[row] = r;
#pragma unroll
    for (int turn = 0; turn < TURNS; turn++) {
        const int at = turn * WARP + lane;
        if (at < VECTORS) {
            Eight a = load(x + row * W + at * 8);
            const Eight g = gains(gain + at * 8);
#pragma unroll
            for (int i = 0; i < 8; i++) a.x[i] *= r * g.x[i];
            store(y + row * W + at * 8, a);
        }
    }
}

// dx = what dy makes of x, and `beside` (the gradient that goes past the norm) if there is one. Each block adds up its
// rows' part of the gain's gradient into its row of `partial`.
extern "C" __global__ void rms_norm_back(const bf16* dy, const bf16* x, const float* gain, const float* scale,
                                         const bf16* beside, bf16* dx, float* partial, i64 rows) {
    __shared__ float whole[W];
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    Eight dgain[TURNS];
#pragma unroll
    for (int turn = 0; turn < TURNS; turn++)
#pragma unroll
        for (int i = 0; i < 8; i++) dgain[turn].x[i] = 0;
    for (i64 row = (i64)blockIdx.x * warps + warp; row < rows; row += (i64)gridDim.x * warps) {
        const float r = scale[row];
        float sum = 0;
#pragma unroll
        for (int turn = 0; turn < TURNS; turn++) {
            const int at = turn * WARP + lane;
            if (at < VECTORS) {
                const Eight a = load(x + row * W + at * 8), d = load(dy + row * W + at * 8), g = gains(gain + at * 8);
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    sum += a.x[i] * d.x[i] * g.x[i];
                    dgain[turn].x[i] += a.x[i] * r * d.x[i];
                }
            }
        }
        const float mean = over(sum, WARP) * r * r / W;
#pragma unroll
        for (int turn = 0; turn < TURNS; turn++) {
            const int at = turn * WARP + lane;
            if (at < VECTORS) {
                const Eight a = load(x + row * W + at * 8), d = load(dy + row * W + at * 8), g = gains(gain + at * 8);
                Eight out;
#pragma unroll
                for (int i = 0; i < 8; i++) out.x[i] = r * (d.x[i] * g.x[i] - a.x[i] * mean);
                if (beside) {
                    const Eight b = load(beside + row * W + at * 8);
#pragma unroll
                    for (int i = 0; i < 8; i++) out.x[i] += b.x[i];
                }
                store(dx + row * W + at * 8, out);
            }
        }
    }
    for (int turn = 0; turn < warps; turn++) {
        if (warp == turn)
#pragma unroll
            for (int part = 0; part < TURNS; part++) {
                const int at = part * WARP + lane;
                if (at < VECTORS)
#pragma unroll
                    for (int i = 0; i < 8; i++)
                        whole[at * 8 + i] = (turn ? whole[at * 8 + i] : 0.0f) + dgain[part].x[i];
            }
        __syncthreads();
    }
    for (int i = threadIdx.x; i < W; i += blockDim.x) partial[(i64)blockIdx.x * W + i] = whole[i];
}

// Queries and keys of `qkv` ([tokens, 3, H, D]): each head's norm and gain, then the turn by its position. A block's
// threads hold the 2·W numbers of a token, eight each; it goes on to other tokens.
extern "C" __global__ void __launch_bounds__(2 * VECTORS)
    heads(const bf16* qkv, const float* gain, const float* cosine, const float* sine, bf16* q, bf16* k, i64 tokens,
          i64 context) {
    const int at = threadIdx.x, in = at % LANES;
    const bool key = at >= VECTORS, second = in >= LANES / 2;
    const Eight g = gains(gain + (key ? D : 0) + in * 8);
    bf16* to = key ? k + (at - VECTORS) * 8 : q + at * 8;
    for (i64 token = blockIdx.x; token < tokens; token += gridDim.x) {
        Eight a = load(qkv + token * 3 * W + at * 8);
        float sum = 0;
#pragma unroll
        for (int i = 0; i < 8; i++) sum += a.x[i] * a.x[i];
        const float r = rsqrtf(over(sum, LANES) / D + EPSILON);
        const i64 angle = token % context * (D / 2) + in % (LANES / 2) * 8;
        const Eight c = gains(cosine + angle), s = gains(sine + angle);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const float own = a.x[i] * r * g.x[i];
            const float other = __shfl_xor_sync(ALL, own, LANES / 2);
            a.x[i] = own * c.x[i] + (second ? other : -other) * s.x[i];
        }
        store(to + token * W, a);
    }
}

// The way back: gradients of the turned queries and keys, and those of the values as they are, into `dqkv`. The three
// may lie in memory as they like (steps of a window, a head, a token), a head's numbers side by side.
extern "C" __global__ void __launch_bounds__(2 * VECTORS)
    heads_back(const bf16* qkv, const float* gain, const float* cosine, const float* sine, const bf16* dq, i64 qw,
               i64 qh, i64 qt, const bf16* dk, i64 kw, i64 kh, i64 kt, const bf16* dv, i64 vw, i64 vh, i64 vt,
               bf16* dqkv, float* partial, i64 tokens, i64 context) {
    __shared__ float all[2 * W];
    const int at = threadIdx.x, in = at % LANES, head = at % VECTORS / LANES;
    const bool key = at >= VECTORS, second = in >= LANES / 2;
    const Eight g = gains(gain + (key ? D : 0) + in * 8);
    const bf16* from = key ? dk : dq;
    const i64 step_w = key ? kw : qw, step_h = key ? kh : qh, step_t = key ? kt : qt;
    Eight dgain;
#pragma unroll
    for (int i = 0; i < 8; i++) dgain.x[i] = 0;
    for (i64 token = blockIdx.x; token < tokens; token += gridDim.x) {
        const i64 window = token / context, position = token % context;
        Eight a = load(qkv + token * 3 * W + at * 8);
        const Eight d = load(from + window * step_w + head * step_h + position * step_t + in * 8);
        const i64 angle = position * (D / 2) + in % (LANES / 2) * 8;
        const Eight c = gains(cosine + angle), s = gains(sine + angle);
        float sum = 0, dot = 0;
#pragma unroll
        for (int i = 0; i < 8; i++) sum += a.x[i] * a.x[i];
        const float r = rsqrtf(over(sum, LANES) / D + EPSILON);
        Eight dn;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const float other = __shfl_xor_sync(ALL, d.x[i], LANES / 2);
            const float turned = d.x[i] * c.x[i] + (second ? -other : other) * s.x[i];
            const float n = a.x[i] * r;
            dgain.x[i] += turned * n;
            dn.x[i] = turned * g.x[i];
            dot += dn.x[i] * n;
            a.x[i] = n;
        }
        const float mean = over(dot, LANES) / D;
#pragma unroll
        for (int i = 0; i < 8; i++) a.x[i] = r * (dn.x[i] - a.x[i] * mean);
        store(dqkv + token * 3 * W + at * 8, a);
        if (!key) {
            const bf16* value = dv + window * vw + head * vh + position * vt + in * 8;
            *reinterpret_cast<uint4*>(dqkv + token * 3 * W + 2 * W + at * 8) = *reinterpret_cast<const uint4*>(value);
        }
    }
#pragma unroll
    for (int i = 0; i < 8; i++) all[at * 8 + i] = dgain.x[i];
    __syncthreads();
    for (int i = at; i < 2 * D; i += blockDim.x) {
        float sum = 0;
        for (int h = 0; h < H; h++) sum += all[i / D * W + h * D + i % D];
        partial[(i64)blockIdx.x * 2 * D + i] = sum;
    }
}

// h = silu(gate) * up, of `both` ([tokens, 2, F]); a thread eight numbers.
extern "C" __global__ void gate(const bf16* both, bf16* h, i64 vectors) {
    const i64 at = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= vectors) return;
    const i64 token = at / (F / 8), in = at % (F / 8) * 8;
    Eight a = load(both + token * 2 * F + in);
    const Eight b = load(both + token * 2 * F + F + in);
#pragma unroll
    for (int i = 0; i < 8; i++) a.x[i] = a.x[i] / (1.0f + __expf(-a.x[i])) * b.x[i];
    store(h + token * F + in, a);
}

extern "C" __global__ void gate_back(const bf16* dh, const bf16* both, bf16* dboth, i64 vectors) {
    const i64 at = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= vectors) return;
    const i64 token = at / (F / 8), in = at % (F / 8) * 8;
    Eight a = load(both + token * 2 * F + in), b = load(both + token * 2 * F + F + in);
    const Eight d = load(dh + token * F + in);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const float s = 1.0f / (1.0f + __expf(-a.x[i]));
        const float silu = a.x[i] * s, up = b.x[i];
        b.x[i] = d.x[i] * silu;
        a.x[i] = d.x[i] * up * (s + silu * (1.0f - s));
    }
    store(dboth + token * 2 * F + in, a);
    store(dboth + token * 2 * F + F + in, b);
}

__device__ __forceinline__ float number(bf16 raw) { return __uint_as_float((unsigned)raw << 16); }

// A block a row of logits, whose place their gradient takes: (softmax - 1 at the target) * share. `nats` gets each
// row's loss.
extern "C" __global__ void cross_entropy(bf16* logits, const i64* targets, float* nats, float share) {
    __shared__ float tops[WARP], sums[WARP];
    bf16* row = logits + (i64)blockIdx.x * V;
    const int target = (int)targets[blockIdx.x], lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    float top = LOWEST, sum = 0;
    const float hit = number(row[target]);
#if V % 8 == 0
    for (int at = threadIdx.x * 8; at < V; at += blockDim.x * 8) {
        const Eight a = load(row + at);
        float high = a.x[0];
#pragma unroll
        for (int i = 1; i < 8; i++) high = fmaxf(high, a.x[i]);
        if (high > top) { sum *= __expf(top - high); top = high; }
#pragma unroll
        for (int i = 0; i < 8; i++) sum += __expf(a.x[i] - top);
    }
#else
    for (int at = threadIdx.x; at < V; at += blockDim.x) {
        const float a = number(row[at]);
        if (a > top) { sum *= __expf(top - a); top = a; }
        sum += __expf(a - top);
    }
#endif
    float high = top;
    for (int step = WARP / 2; step > 0; step /= 2) high = fmaxf(high, __shfl_xor_sync(ALL, high, step));
    sum = over(top == LOWEST ? 0.0f : sum * __expf(top - high), WARP);
    if (lane == 0) { tops[warp] = high; sums[warp] = sum; }
    // Also: nobody overwrites the target's logit before everybody has read it.
    __syncthreads();
    const int warps = blockDim.x / WARP;
    top = tops[0];
    for (int i = 1; i < warps; i++) top = fmaxf(top, tops[i]);
    sum = 0;
    for (int i = 0; i < warps; i++) sum += tops[i] == LOWEST ? 0.0f : sums[i] * __expf(tops[i] - top);
    const float whole = top + logf(sum);
    if (threadIdx.x == 0) nats[blockIdx.x] = whole - hit;
#if V % 8 == 0
    for (int at = threadIdx.x * 8; at < V; at += blockDim.x * 8) {
        Eight a = load(row + at);
#pragma unroll
        for (int i = 0; i < 8; i++) a.x[i] = (__expf(a.x[i] - whole) - (at + i == target ? 1.0f : 0.0f)) * share;
        store(row + at, a);
    }
#else
    for (int at = threadIdx.x; at < V; at += blockDim.x) {
        const float a = (__expf(number(row[at]) - whole) - (at == target ? 1.0f : 0.0f)) * share;
        unsigned pair;
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(0.0f), "f"(a));
        row[at] = (bf16)pair;
    }
#endif
}

// One AdamW step on all weights (the first `matrices` shrink), and the weights anew in bf16.
extern "C" __global__ void adam(float* weights, const float* gradient, float* mean, float* square, bf16* rounded,
                                i64 count, i64 matrices, float clip, float beta1, float beta2, float shrink, float size,
                                float unbias) {
    const i64 step = (i64)gridDim.x * blockDim.x;
    for (i64 at = (i64)blockIdx.x * blockDim.x + threadIdx.x; at < count; at += step) {
        const float g = gradient[at] * clip;
        const float m = mean[at] + (1.0f - beta1) * (g - mean[at]);
        const float v = square[at] * beta2 + (1.0f - beta2) * g * g;
        float w = weights[at];
        if (at < matrices) w *= 1.0f - shrink;
        w -= size * m / (sqrtf(v) * unbias + 1e-8f);
        mean[at] = m;
        square[at] = v;
        weights[at] = w;
        unsigned pair;
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(0.0f), "f"(w));
        rounded[at] = (bf16)pair;
    }
}
