// What a kernel needs of CUDA C++, on the processor: the threads of a block run one after the other, and a kernel with
// barriers gives each thread a stack of its own, so that it can stop at a barrier until the others have come there.
#pragma once
#include <ucontext.h>

#include <algorithm>
#include <cassert>
#include <climits>
#include <cmath>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "../standin.h"

using std::isfinite;
using std::isinf;
using std::isnan;
using std::max;
using std::min;
using std::signbit;

#define __HIPCC__ 1
#define __HIPCC_RTC__ 1
#define __HIP_DEVICE_COMPILE__ 1
#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __constant__ static
#define __launch_bounds__(...)

struct Place {
    unsigned x, y, z;
};
static Place threadIdx, blockIdx, blockDim, gridDim;

static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
static inline long long clock64() {
    static long long now;
    return now += 1000;
}
template <class T>
static inline T __ldg(const T *pointer) {
    return *pointer;
}

namespace standin {

static ucontext_t scheduler;
static std::vector<ucontext_t> threads;
static std::vector<bool> ended;
static unsigned running;
static const Work *body;

static void stop() { swapcontext(&threads[running], &scheduler); }

static void thread() {
    (*body)();
    ended[running] = true;
    stop();
}

static void choose(unsigned number) {
    running = number;
    threadIdx = {number % blockDim.x, number / blockDim.x % blockDim.y, number / blockDim.x / blockDim.y};
}

static void run_block(unsigned count, bool waits) {
    if (!waits) {
        for (unsigned i = 0; i < count; i++) choose(i), (*body)();
        return;
    }
    const size_t size = 1 << 16;
    static std::vector<char> stacks;
    stacks.resize(count * size), threads.resize(count), ended.assign(count, false);
    for (unsigned i = 0; i < count; i++) {
        getcontext(&threads[i]);
        threads[i].uc_stack.ss_sp = &stacks[i * size];
        threads[i].uc_stack.ss_size = size;
        makecontext(&threads[i], thread, 0);
    }
    for (bool more = true; more;) {  // each round takes every thread to its next barrier
        more = false;
        for (unsigned i = 0; i < count; i++)
            if (!ended[i]) choose(i), swapcontext(&scheduler, &threads[i]), more = true;
    }
}

static void run(const Work &work, Shape shape, bool waits) {
    body = &work;
    gridDim = {shape.grid[0], shape.grid[1], shape.grid[2]};
    blockDim = {shape.block[0], shape.block[1], shape.block[2]};
    for (blockIdx.z = 0; blockIdx.z < gridDim.z; blockIdx.z++)
        for (blockIdx.y = 0; blockIdx.y < gridDim.y; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++)
                run_block(blockDim.x * blockDim.y * blockDim.z, waits);
}

template <class... A, size_t... I>
Work prepared(void (*kernel)(A...), void **parameters, Shape shape, bool waits, std::index_sequence<I...>) {
    std::tuple<std::decay_t<A>...> copies(*(std::decay_t<A> *)parameters[I]...);
    return [=] { run([=] { std::apply(kernel, copies); }, shape, waits); };
}

template <class... A>
Work prepare(void (*kernel)(A...), void **parameters, Shape shape, bool waits) {
    return prepared(kernel, parameters, shape, waits, std::index_sequence_for<A...>());
}

}  // namespace standin

static inline void __syncthreads() { standin::stop(); }

#define STANDIN_KERNEL(name, waits)                                                          \
    extern "C" standin::Work name##__launch(void **parameters, standin::Shape shape) { \
        return standin::prepare(name, parameters, shape, waits);                       \
    }
