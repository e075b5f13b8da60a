/* CUDA's execution model on the host, for tests and debuggers.

   Each thread of a block is a fibre: an own stack on the one host thread. The fibres of a block
   run in order, each until its next barrier; the blocks run one after another. So a kernel gives
   the same bits in every run, and where a barrier is missing the first fibre runs ahead of the
   others and the result is wrong every time. Shared memory is static memory that is filled with
   NaN (all bits set) before each block, so that what is read before it is written shows. */

#ifndef FLAMBEAU_HOST_H
#define FLAMBEAU_HOST_H

#include <stdio.h>
#include <string.h>
#include <ucontext.h>

#include <memory>
#include <mutex>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define BARRIER flambeau::barrier(__LINE__)
#define __syncthreads() BARRIER
#ifdef __ELF__
#define __shared__ static __attribute__((section("flambeau_shared")))
extern "C" __attribute__((weak, visibility("hidden"))) char __start_flambeau_shared[];
extern "C" __attribute__((weak, visibility("hidden"))) char __stop_flambeau_shared[];
#else
#define __shared__ static
#endif

struct Index {
    unsigned x, y, z;
};
static Index threadIdx, blockIdx, blockDim, gridDim;

namespace flambeau {

typedef void (*Kernel)(void **arguments);

struct Fibre {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    int line; /* of the barrier at which it waits; 0: it has returned */
};

static const size_t stack_bytes = 512 * 1024; /* a team's values may be on each */
static std::mutex one_launch; /* the state below, and the kernels' shared memory, are static */
static std::vector<Fibre> fibres;
static ucontext_t scheduler;
static Fibre *current;
static Kernel kernel;
static void **arguments;
static char message[200];

static inline void barrier(int line) {
    current->line = line;
    swapcontext(&current->context, &scheduler);
}

static void run_fibre() {
    kernel(arguments);
    current->line = 0;
}

static void start(Fibre &fibre) {
    if (!fibre.stack) fibre.stack.reset(new char[stack_bytes]);
    getcontext(&fibre.context);
    fibre.context.uc_stack.ss_sp = fibre.stack.get();
    fibre.context.uc_stack.ss_size = stack_bytes;
    fibre.context.uc_link = &scheduler;
    makecontext(&fibre.context, run_fibre, 0);
}

static void clear_shared() {
#ifdef __ELF__
    if (__start_flambeau_shared)
        memset(__start_flambeau_shared, 0xFF, __stop_flambeau_shared - __start_flambeau_shared);
#endif
}

/* Run every fibre to its next barrier; the message if they are not all at the same one. */
static const char *step(unsigned threads) {
    for (unsigned t = 0; t < threads; t++) {
        threadIdx.x = t;
        current = &fibres[t];
        swapcontext(&scheduler, &current->context);
        int first = fibres[0].line, line = fibres[t].line;
        if (line == first) continue;
        snprintf(message, sizeof message,
                 "a barrier must be reached by every thread of its block - in block %u the lines "
                 "are %d for thread 0 and %d for thread %u (0: it has returned)",
                 blockIdx.x, first, line, t);
        return message;
    }
    return 0;
}

static const char *launch(Kernel k, unsigned blocks, unsigned threads, void **values) {
    std::lock_guard<std::mutex> lock(one_launch);
    kernel = k;
    arguments = values;
    gridDim = {blocks, 1, 1};
    blockDim = {threads, 1, 1};
    threadIdx = {0, 0, 0};
    if (fibres.size() < threads) fibres = std::vector<Fibre>(threads);
    for (unsigned b = 0; b < blocks; b++) {
        blockIdx = {b, 0, 0};
        clear_shared();
        for (unsigned t = 0; t < threads; t++) start(fibres[t]);
        do {
            const char *error = step(threads);
            if (error) return error;
        } while (fibres[0].line);
    }
    return 0;
}

}  // namespace flambeau

#endif
