// CUDA's language on the processor, to run the kernels' C++ in tests: the threads of a block are coroutines, the blocks follow each other.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <vector>

#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(threads)
#define __shared__ static

struct Index {
    unsigned x;
};
static Index threadIdx, blockIdx, blockDim;

namespace threads {

const unsigned WARP = 32;
const size_t STACK = 128 << 10;

struct Meeting {
    unsigned arrived = 0;
    unsigned generation = 0;
};

static ucontext_t scheduler;
static std::vector<ucontext_t> contexts;
static std::vector<char> done;
static Meeting of_block;
static std::vector<Meeting> of_warps;
static std::vector<unsigned> exchanged;
static void (*body)();

static void yield() {
    unsigned me = threadIdx.x;
    swapcontext(&contexts[me], &scheduler);
}

// Returns when `expected` threads have called it.
static void meet(Meeting& meeting, unsigned expected) {
    unsigned generation = meeting.generation;
    if (++meeting.arrived == expected) {
        meeting.arrived = 0;
        meeting.generation++;
        return;
    }
    while (meeting.generation == generation) yield();
}

static unsigned exchange(unsigned bits, unsigned from) {
    unsigned first = threadIdx.x / WARP * WARP;
    unsigned lanes = blockDim.x - first < WARP ? blockDim.x - first : WARP;
    Meeting& warp = of_warps[threadIdx.x / WARP];
    exchanged[threadIdx.x] = bits;
    meet(warp, lanes);
    unsigned result = exchanged[first + from];
    meet(warp, lanes);
    return result;
}

template <class T> static T shuffled(T x, unsigned from) {
    static_assert(sizeof(T) == 4, "one register");
    unsigned bits;
    memcpy(&bits, &x, 4);
    bits = exchange(bits, from);
    memcpy(&x, &bits, 4);
    return x;
}

static void start() {
    body();
    done[threadIdx.x] = 1;
    yield();
}

// Runs a grid. Threads that wait for each other in vain end the process.
static void launch(unsigned blocks, unsigned size, void (*function)()) {
    body = function;
    blockDim.x = size;
    contexts.resize(size);
    std::vector<char> stacks(STACK * size);
    for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++) {
        done.assign(size, 0);
        exchanged.assign(size, 0);
        of_block = Meeting();
        of_warps.assign(size / WARP + 1, Meeting());
        for (unsigned i = 0; i < size; i++) {
            getcontext(&contexts[i]);
            contexts[i].uc_stack.ss_sp = &stacks[STACK * i];
            contexts[i].uc_stack.ss_size = STACK;
            contexts[i].uc_link = nullptr;
            makecontext(&contexts[i], start, 0);
        }
        for (unsigned left = size, rounds = 0; left > 0; rounds++) {
            if (rounds > 1000000) {
                fprintf(stderr, "threads of a block wait for each other\n");
                exit(3);
            }
            for (unsigned i = 0; i < size; i++) {
                if (done[i]) continue;
                threadIdx.x = i;
                swapcontext(&scheduler, &contexts[i]);
                left -= done[i];
            }
        }
    }
}

}  // namespace threads

static inline void __syncthreads() { threads::meet(threads::of_block, blockDim.x); }
template <class T> static T __shfl_xor_sync(unsigned, T x, unsigned mask) {
    return threads::shuffled(x, (threadIdx.x % threads::WARP) ^ mask);
}

// Only one thread runs at a time. Each returns the value before.
static inline unsigned replace(unsigned* a, unsigned x) {
    unsigned before = *a;
    *a = x;
    return before;
}
static inline unsigned atomicAdd(unsigned* a, unsigned x) { return replace(a, *a + x); }
static inline unsigned atomicMin(unsigned* a, unsigned x) { return replace(a, x < *a ? x : *a); }
static inline unsigned atomicAnd(unsigned* a, unsigned x) { return replace(a, *a & x); }
static inline unsigned atomicOr(unsigned* a, unsigned x) { return replace(a, *a | x); }
static inline unsigned atomicCAS(unsigned* a, unsigned expected, unsigned x) {
    return replace(a, *a == expected ? x : *a);
}

// The buffers of a case, one after the other in a file, each aligned.
static std::vector<char*> buffers;

static void for_each_buffer(const char* path, const char* mode, const size_t* sizes, unsigned count) {
    FILE* file = fopen(path, mode);
    if (!file) exit(2);
    bool reads = mode[0] == 'r';
    for (unsigned i = 0; i < count; i++) {
        if (reads) buffers.push_back((char*)aligned_alloc(256, (sizes[i] + 255) / 256 * 256));
        size_t n = reads ? fread(buffers[i], 1, sizes[i], file) : fwrite(buffers[i], 1, sizes[i], file);
        if (n != sizes[i]) exit(2);
    }
    fclose(file);
}
