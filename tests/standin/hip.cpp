// A stand-in for HIP that computes on the processor: device memory is malloc's, kernels are compiled by this machine's
// C++ compiler (compiler.cpp), and products of matrices are loops (blas.cpp).
//
// Work is done at once. With STANDIN_LAZY=1 it is done as late as a device may do it: a stream is a queue, and runs only
// when somebody waits for it or asks how far it is. A program that forgets to wait then computes wrong numbers.
//
// Only what CuPy calls for this project is here. Everything else fails, by name.
#include "standin.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <set>

namespace standin {

static int devices() {
    const char *number = getenv("STANDIN_DEVICES");
    return number ? atoi(number) : 2;
}
static const bool lazy = getenv("STANDIN_LAZY") != nullptr;
int device = 0;

// Memory --------------------------------------------------------------------------------------------------------------

struct Block {
    size_t size;
    int device;  // -1: page-locked memory of the host
};
static std::map<char *, Block> blocks;

static const Block *block_at(const void *pointer) {
    auto next = blocks.upper_bound((char *)pointer);
    if (next == blocks.begin()) return nullptr;
    --next;
    return (char *)pointer < next->first + next->second.size ? &next->second : nullptr;
}

static Status allocate(void **pointer, size_t size, int owner) {
    *pointer = aligned_alloc(512, (size + 511) / 512 * 512);
    memset(*pointer, 0xff, size);  // NaN: nobody should read what nobody has written
    blocks[(char *)*pointer] = {size, owner};
    return 0;
}

static Status release(void *pointer) {
    finish_all();
    blocks.erase((char *)pointer);
    free(pointer);
    return 0;
}

void check_device(const void *pointer) {
    const Block *block = block_at(pointer);
    if (!block || block->device != device) {
        fprintf(stderr, "illegal address: device %d reads memory of device %d\n", device, block ? block->device : -2);
        abort();
    }
}

// Streams -------------------------------------------------------------------------------------------------------------

struct Stream {
    std::deque<Work> queue;
    size_t given = 0, done = 0;  // pieces of work
};
static Stream null_stream;  // blocking streams wait for it and it for them: all of them are this one
static std::set<Stream *> streams = {&null_stream};

static Stream *at(void *stream) { return stream ? (Stream *)stream : &null_stream; }

static void run_until(Stream *stream, size_t count) {
    while (stream->done < count) {
        Work work = std::move(stream->queue.front());
        stream->queue.pop_front();
        stream->done++;
        work();
    }
}

void give(void *stream, Work work) {
    Stream *own = at(stream);
    own->queue.push_back(std::move(work));
    own->given++;
    if (!lazy) run_until(own, own->given);
}

void finish_all() {
    for (Stream *stream : streams) run_until(stream, stream->given);
}

struct Event {
    Stream *stream = nullptr;
    size_t count = 0;
};

}  // namespace standin

using namespace standin;

// Devices -------------------------------------------------------------------------------------------------------------

API Status hipGetDeviceCount(int *count) { return *count = devices(), 0; }
API Status hipGetDevice(int *number) { return *number = device, 0; }
API Status hipSetDevice(int number) { return device = number, 0; }
API Status hipDeviceSynchronize() { return finish_all(), 0; }
API Status hipDriverGetVersion(int *version) { return *version = 70051831, 0; }
API Status hipRuntimeGetVersion(int *version) { return *version = 70051831, 0; }
API const char *hipGetErrorName(Status) { return "hipErrorOfStandIn"; }
API const char *hipGetErrorString(Status) { return "the stand-in has no such function"; }
API Status hipGetLastError() { return 0; }
API Status hipDeviceGetAttribute(int *value, int, int) { return *value = 1, 0; }
API Status hipGetDevicePropertiesR0600(char *properties, int) {
    memset(properties, 0, 1472);
    strcpy(properties, "stand-in");
    strcpy(properties + 1160, "gfx90a");    // gcnArchName
    *(int *)(properties + 308) = 64;        // warpSize
    return 0;
}
API Status hipDeviceGetPCIBusId(char *id, int length, int number) {
    return snprintf(id, length, "0000:%02X:00.0", number), 0;
}
API Status hipDeviceCanAccessPeer(int *can, int, int) { return *can = 0, 0; }

// Memory --------------------------------------------------------------------------------------------------------------

API Status hipMalloc(void **pointer, size_t size) { return allocate(pointer, size, device); }
API Status hipHostMalloc(void **pointer, size_t size, unsigned) { return allocate(pointer, size, -1); }
API Status hipFree(void *pointer) { return release(pointer); }
API Status hipHostFree(void *pointer) { return release(pointer); }
API Status hipMemGetInfo(size_t *free, size_t *total) { return *free = *total = (size_t)8 << 30, 0; }

API Status hipPointerGetAttributes(void *attributes, void *pointer) {
    struct Attributes {
        int type, device;
        void *on_device, *on_host;
        int managed;
        unsigned flags;
    } found = {2, block_at(pointer) ? block_at(pointer)->device : 0, pointer, pointer, 0, 0};
    return memcpy(attributes, &found, sizeof found), 0;
}

API Status hipMemcpyAsync(void *to, const void *from, size_t size, int, void *stream) {
    if (block_at(from)) {
        give(stream, [=] { memmove(to, from, size); });
    } else {  // memory of the host that is not page-locked is read at once
        std::vector<char> copy((const char *)from, (const char *)from + size);
        give(stream, [=] { memcpy(to, copy.data(), size); });
    }
    if (!block_at(to)) run_until(at(stream), at(stream)->given);  // and written before the call returns
    return 0;
}
API Status hipMemcpy(void *to, const void *from, size_t size, int kind) {
    hipMemcpyAsync(to, from, size, kind, nullptr);
    return run_until(&null_stream, null_stream.given), 0;
}
API Status hipMemsetAsync(void *to, int value, size_t size, void *stream) {
    return give(stream, [=] { memset(to, value, size); }), 0;
}
API Status hipMemset(void *to, int value, size_t size) { return hipMemsetAsync(to, value, size, nullptr); }

// Streams and events --------------------------------------------------------------------------------------------------

API Status hipStreamCreateWithFlags(void **stream, unsigned flags) {
    *stream = flags == 1 ? new Stream : &null_stream;  // 1: it does not wait for the null stream
    return streams.insert((Stream *)*stream), 0;
}
API Status hipStreamCreate(void **stream) { return hipStreamCreateWithFlags(stream, 0); }
API Status hipStreamCreateWithPriority(void **stream, unsigned flags, int) {
    return hipStreamCreateWithFlags(stream, flags);
}
API Status hipStreamDestroy(void *stream) {
    if (at(stream) == &null_stream) return 0;
    run_until(at(stream), at(stream)->given);
    streams.erase(at(stream));
    return delete at(stream), 0;
}
API Status hipStreamSynchronize(void *stream) { return run_until(at(stream), at(stream)->given), 0; }
API Status hipStreamQuery(void *stream) { return hipStreamSynchronize(stream); }
API Status hipStreamIsCapturing(void *, int *capturing) { return *capturing = 0, 0; }
API Status hipEventCreateWithFlags(void **event, unsigned) { return *event = new Event, 0; }
API Status hipEventCreate(void **event) { return hipEventCreateWithFlags(event, 0); }
API Status hipEventDestroy(void *event) { return delete (Event *)event, 0; }
API Status hipEventRecord(void *event, void *stream) {
    return *(Event *)event = {at(stream), at(stream)->given}, 0;
}
API Status hipEventSynchronize(void *event) {
    Event *own = (Event *)event;
    if (own->stream) run_until(own->stream, own->count);
    return 0;
}
API Status hipEventQuery(void *event) { return hipEventSynchronize(event); }  // a device makes progress
API Status hipEventElapsedTime(float *milliseconds, void *, void *) { return *milliseconds = 0, 0; }
API Status hipStreamWaitEvent(void *stream, void *event, unsigned) {
    Event then = *(Event *)event;
    return give(stream, [=] { if (then.stream) run_until(then.stream, then.count); }), 0;
}

// Kernels -------------------------------------------------------------------------------------------------------------

API Status hipModuleLoadData(void **module, const void *image) {
    char name[] = "/tmp/standin-XXXXXX";
    size_t size = *(const size_t *)((const char *)image + 8);  // after eight letters, see compiler.cpp
    int file = mkstemp(name);
    if (write(file, (const char *)image + 16, size) != (ssize_t)size) return 1;
    close(file);
    *module = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    unlink(name);
    return *module ? 0 : 200;
}
API Status hipModuleUnload(void *) { return 0; }
API Status hipModuleGetFunction(void **function, void *module, const char *name) {
    *function = dlsym(module, (std::string(name) + "__launch").c_str());
    return *function ? 0 : 500;
}
API Status hipModuleGetGlobal(void **pointer, size_t *size, void *module, const char *name) {
    *pointer = dlsym(module, name);
    return *pointer ? 0 : 500;
}
API Status hipFuncGetAttribute(int *value, int, void *) { return *value = 0, 0; }
API Status hipModuleLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                                 unsigned bz, unsigned, void *stream, void **parameters, void **) {
    // `prepare` copies the parameters, which the caller may change once the kernel is launched.
    auto prepare = (Work(*)(void **, Shape))function;
    return give(stream, prepare(parameters, {gx, gy, gz, bx, by, bz})), 0;
}

// The parts of the library that CuPy registers when it is imported, and that nobody calls.
API void **__hipRegisterFatBinary(void *) {
    static void *module;
    return &module;
}
API void __hipUnregisterFatBinary(void **) {}
API void __hipRegisterFunction() {}
API void __hipRegisterVar() {}
API void __hipRegisterManagedVar() {}
