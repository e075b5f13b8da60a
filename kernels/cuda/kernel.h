/* What a kernel may use: the same on a GPU (nvcc) and on host fibres (g++ with FLAMBEAU_HOST).

   real            float or double: -Dreal=... says which
   KERNEL          begins a kernel:  KERNEL relu(const real *x, real *y, i64 n) { ... }
   STRIDED(i, n)   for each i < n, dealt to all threads of the grid; right at any launch size
   BLOCKS(row, n)  for each row < n, dealt to the blocks; all threads of a block share a row
   THREADS(i, n)   for each i < n, dealt to the threads of one block
   ROWS(row, n, l) for each row < n, dealt to groups of l threads of all blocks, l = LANES(inner)
   LANE(i, n, l)   for each i < n, dealt to the threads of one such group
   SHARED          memory of one block: SHARED real row[BLOCK];
   BARRIER         every thread of the block arrives before one goes on
   KERNEL_OF(n, m) begins a kernel whose blocks are teams of n workers, which keep values in
                   registers from barrier to barrier. For that a worker must be a thread, so a GPU
                   launches it with n threads and at no other size; the host's threads play all
                   workers, however many there are of either. Registers are left for m blocks at
                   once on a multiprocessor in single precision, for half as many in double
   WORKERS(i, n)   for each worker i < n that this thread plays; its values are in mine[OWN(i)] of
                   an array mine[PLAYED(n)]
   all_values      y[i] = f(x[i], ...) for each i < n, four at a time: STRIDED where memory is the
                   limit; row_values likewise LANE
   Four            four values that lie together, moved at once: 16 bytes aligned
   UNROLL          before a loop whose index must be known when it is compiled
   block_sum, block_max   over one value a thread, in a fixed order, to every thread

   A launcher's arguments are checked against a kernel's parameters, which are pointers to real,
   int, i64 or void, the numbers i64 and real, and structs of i64 (`struct Name name`), which
   `source.record` makes from names and numbers. */

#ifndef FLAMBEAU_KERNEL_H
#define FLAMBEAU_KERNEL_H

#include <math.h>

typedef long long i64;
typedef unsigned int u32;

#ifdef FLAMBEAU_HOST
#include "host.h"
#define UNROLL
#define PLAYED(n) (n)
#define OWN(i) ((i) / blockDim.x)
#define WORKERS(i, n) for (u32 i = threadIdx.x; i < (n); i += blockDim.x)
#else
#define BARRIER __syncthreads()
#define UNROLL _Pragma("unroll")
#define PLAYED(n) 1
#define OWN(i) 0
#define WORKERS(i, n) if (const u32 i = threadIdx.x; i < (n))
#endif

#define BLOCK 256 /* the most threads a block is launched with */
#define SHARED __shared__
#define KERNEL extern "C" __global__ void
#define KERNEL_OF(n, blocks) KERNEL __launch_bounds__(n, (blocks) * 4 / sizeof(real))

#define STRIDED(i, n)                                                                             \
    for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < (n);                             \
         i += (i64)gridDim.x * blockDim.x)
#define BLOCKS(row, n) for (i64 row = blockIdx.x; row < (n); row += gridDim.x)
#define THREADS(i, n) for (i64 i = threadIdx.x; i < (n); i += blockDim.x)
/* Rows of a few values are taken by a thread each, long ones by a block, others by a warp. */
#define LANES(inner) ((inner) >= 1024 ? blockDim.x : (inner) < 8 || blockDim.x % 32 ? 1u : 32u)
#define ROWS(row, n, lanes)                                                                       \
    for (i64 row = ((i64)blockIdx.x * blockDim.x + threadIdx.x) / (lanes); row < (n);             \
         row += (i64)gridDim.x * blockDim.x / (lanes))
#define LANE(i, n, lanes) for (i64 i = threadIdx.x % (lanes); i < (n); i += (lanes))

struct alignas(16) Four {
    real v[4];
};

__device__ inline bool aligned(const void *x) { return (unsigned long long)x % 16 == 0; }

/* y[i] = f(x[i], ...) for i < n, dealt to `step` threads of which this is the `first`, four values
   at a time where all arrays are aligned: so many bytes must be under way to fill the memory. */
template <typename F, typename... X>
__device__ inline void pointwise(i64 first, i64 step, i64 n, real *y, F f, const X *...x) {
    i64 fours = aligned(y) && (aligned(x) && ...) ? n / 4 : 0;
    for (i64 i = first; i < fours; i += step) {
        Four out;
        auto each = [&](const auto &...four) {
            UNROLL for (int j = 0; j < 4; j++) out.v[j] = f(four.v[j]...);
        };
        each(((const Four *)x)[i]...);
        ((Four *)y)[i] = out;
    }
    for (i64 i = 4 * fours + first; i < n; i += step) y[i] = f(x[i]...);
}

/* y[i] = f(x[i], ...) for each i < n, dealt to all threads as by STRIDED */
template <typename F, typename... X>
__device__ inline void all_values(i64 n, real *y, F f, const X *...x) {
    i64 first = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    pointwise(first, (i64)gridDim.x * blockDim.x, n, y, f, x...);
}

/* y[i] = f(x[i], ...) for each i < n, dealt as by LANE */
template <typename F, typename... X>
__device__ inline void row_values(u32 lanes, i64 n, real *y, F f, const X *...x) {
    pointwise(threadIdx.x % lanes, lanes, n, y, f, x...);
}

/* The sum of one value a thread; shared has BLOCK places and is free again afterwards. */
__device__ inline real block_sum(real value, real *shared) {
    shared[threadIdx.x] = value;
    BARRIER;
    for (u32 count = blockDim.x; count > 1;) {
        u32 half = (count + 1) / 2;
        if (threadIdx.x < count - half) shared[threadIdx.x] += shared[threadIdx.x + half];
        BARRIER;
        count = half;
    }
    real total = shared[0];
    BARRIER;
    return total;
}

/* The greatest of one value a thread, likewise. */
__device__ inline real block_max(real value, real *shared) {
    shared[threadIdx.x] = value;
    BARRIER;
    for (u32 count = blockDim.x; count > 1;) {
        u32 half = (count + 1) / 2;
        if (threadIdx.x < count - half)
            shared[threadIdx.x] = fmax(shared[threadIdx.x], shared[threadIdx.x + half]);
        BARRIER;
        count = half;
    }
    real greatest = shared[0];
    BARRIER;
    return greatest;
}

#endif
