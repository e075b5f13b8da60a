/* What a kernel may use: the same on a GPU (nvcc) and on host fibres (g++ with FLAMBEAU_HOST).

   real            float or double: -Dreal=... says which
   KERNEL          begins a kernel:  KERNEL relu(const real *x, real *y, i64 n) { ... }
   STRIDED(i, n)   for each i < n, dealt to all threads of the grid; right at any launch size
   BLOCKS(row, n)  for each row < n, dealt to the blocks; all threads of a block share a row
   THREADS(i, n)   for each i < n, dealt to the threads of one block
   SHARED          memory of one block: SHARED real row[BLOCK];
   BARRIER         every thread of the block arrives before one goes on
   block_sum, block_max   over one value a thread, in a fixed order, to every thread

   A launcher's arguments are checked against a kernel's parameters, which are pointers to real,
   int, i64 or void, and the numbers i64 and real. */

#ifndef FLAMBEAU_KERNEL_H
#define FLAMBEAU_KERNEL_H

#include <math.h>

typedef long long i64;
typedef unsigned int u32;

#ifdef FLAMBEAU_HOST
#include "host.h"
#else
#define BARRIER __syncthreads()
#endif

#define BLOCK 256 /* the most threads a block is launched with */
#define SHARED __shared__
#define KERNEL extern "C" __global__ void

#define STRIDED(i, n)                                                                             \
    for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < (n);                             \
         i += (i64)gridDim.x * blockDim.x)
#define BLOCKS(row, n) for (i64 row = blockIdx.x; row < (n); row += gridDim.x)
#define THREADS(i, n) for (i64 i = threadIdx.x; i < (n); i += blockDim.x)

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
