// A CUDA driver with one device, on the CPU: the functions that the backend calls, and no others.
//
// Memory is that of the host, every call is done when it returns, and modules are ignored: kernels are looked up by name
// among those that were compiled into this library. Fresh memory is full of NaN, so that what is read before it is
// written shows; a frame behind every block is checked when the block is freed.

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <mutex>

#include "grid.h"

typedef int Status;
typedef unsigned long long Pointer;

namespace {

const Status OK = 0, INVALID_VALUE = 1, INVALID_DEVICE = 101, NOT_FOUND = 500, NOT_SUPPORTED = 801;
const std::size_t HEAD = 64, FRAME = 64;
const unsigned char UNWRITTEN = 0xff, FRAME_BYTE = 0xa5;

std::mutex busy;
std::size_t used, most;
int the_context, the_stream, the_module, the_pool;
thread_local void* current_context;

struct Event {
    std::chrono::steady_clock::time_point time;
};

}  // namespace

extern "C" {

Status cuInit(unsigned) { return OK; }

Status cuDriverGetVersion(int* version) {
    *version = 13000;
    return OK;
}

Status cuGetErrorName(Status, const char** name) {
    *name = "an error of the emulator";
    return OK;
}

Status cuGetErrorString(Status, const char** text) {
    *text = "an error of the emulator";
    return OK;
}

// NVRTC asks the driver that it finds for tables of its own, and goes on without.
Status cuGetExportTable(const void**, const void*) { return NOT_SUPPORTED; }

Status cuDeviceGetCount(int* count) {
    *count = 1;
    return OK;
}

Status cuDeviceGet(int* device, int ordinal) {
    *device = 0;
    return ordinal == 0 ? OK : INVALID_DEVICE;
}

Status cuDeviceGetName(char* name, int length, int) {
    snprintf(name, length, "emulator");
    return OK;
}

Status cuDeviceTotalMem_v2(std::size_t* bytes, int) {
    *bytes = std::size_t(1) << 30;
    return OK;
}

// Compute capability 9.0, two multiprocessors, memory pools; whatever else is asked for is 1.
Status cuDeviceGetAttribute(int* value, int attribute, int) {
    switch (attribute) {
        case 16: *value = 2; break;
        case 75: *value = 9; break;
        case 76: *value = 0; break;
        default: *value = 1;
    }
    return OK;
}

Status cuDevicePrimaryCtxRetain(void** context, int) {
    *context = &the_context;
    return OK;
}

Status cuDevicePrimaryCtxRelease_v2(int) { return OK; }

Status cuCtxGetCurrent(void** context) {
    *context = current_context;
    return OK;
}

Status cuCtxSetCurrent(void* context) {
    current_context = context;
    return OK;
}

Status cuCtxSynchronize() { return OK; }

Status cuStreamCreate(void** stream, unsigned) {
    *stream = &the_stream;
    return OK;
}

Status cuStreamDestroy_v2(void*) { return OK; }
Status cuStreamSynchronize(void*) { return OK; }

Status cuDeviceGetDefaultMemPool(void** pool, int) {
    *pool = &the_pool;
    return OK;
}

Status cuMemPoolSetAttribute(void*, int, void*) { return OK; }

// Whatever is asked for is the most bytes that were in use.
Status cuMemPoolGetAttribute(void*, int, void* value) {
    *static_cast<unsigned long long*>(value) = most;
    return OK;
}

Status cuMemAllocAsync(Pointer* pointer, std::size_t bytes, void*) {
    std::lock_guard<std::mutex> lock(busy);
    if (bytes == 0) return INVALID_VALUE;
    char* start = static_cast<char*>(aligned_alloc(64, (HEAD + bytes + FRAME + 63) / 64 * 64));
    memcpy(start, &bytes, sizeof bytes);
    memset(start + HEAD, UNWRITTEN, bytes);
    memset(start + HEAD + bytes, FRAME_BYTE, FRAME);
    used += bytes;
    most = used > most ? used : most;
    *pointer = reinterpret_cast<Pointer>(start + HEAD);
    return OK;
}

Status cuMemFreeAsync(Pointer pointer, void*) {
    std::lock_guard<std::mutex> lock(busy);
    char* start = reinterpret_cast<char*>(pointer) - HEAD;
    std::size_t bytes;
    memcpy(&bytes, start, sizeof bytes);
    for (std::size_t i = 0; i < FRAME; i++) {
        if (static_cast<unsigned char>(start[HEAD + bytes + i]) != FRAME_BYTE) {
            fprintf(stderr, "emulator: byte %zu behind a block of %zu bytes was overwritten\n", i, bytes);
            abort();
        }
    }
    used -= bytes;
    free(start);
    return OK;
}

Status cuMemcpyHtoDAsync_v2(Pointer to, const void* from, std::size_t bytes, void*) {
    memcpy(reinterpret_cast<void*>(to), from, bytes);
    return OK;
}

Status cuMemcpyDtoHAsync_v2(void* to, Pointer from, std::size_t bytes, void*) {
    memcpy(to, reinterpret_cast<void*>(from), bytes);
    return OK;
}

Status cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, std::size_t bytes, void*) {
    memcpy(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), bytes);
    return OK;
}

Status cuMemsetD8Async(Pointer to, unsigned char byte, std::size_t bytes, void*) {
    memset(reinterpret_cast<void*>(to), byte, bytes);
    return OK;
}

Status cuModuleLoadData(void** module, const void*) {
    *module = &the_module;
    return OK;
}

Status cuModuleUnload(void*) { return OK; }

Status cuModuleGetFunction(void** function, void*, const char* name) {
    for (unsigned i = 0; i < kernel_count; i++) {
        if (strcmp(kernels[i].name, name) == 0) {
            *function = const_cast<Kernel*>(&kernels[i]);
            return OK;
        }
    }
    return NOT_FOUND;
}

Status cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                      unsigned shared, void*, void** arguments, void**) {
    std::lock_guard<std::mutex> lock(busy);
    bool fits = gx && gy && gz && bx && by && bz && gy < 65536 && gz < 65536 && bx * by * bz <= 1024 && shared == 0;
    if (!fits) return INVALID_VALUE;
    run(*static_cast<Kernel*>(function), {gx, gy, gz}, {bx, by, bz}, arguments);
    return OK;
}

Status cuEventCreate(void** event, unsigned) {
    *event = new Event();
    return OK;
}

Status cuEventRecord(void* event, void*) {
    static_cast<Event*>(event)->time = std::chrono::steady_clock::now();
    return OK;
}

Status cuEventSynchronize(void*) { return OK; }

Status cuEventElapsedTime_v2(float* milliseconds, void* start, void* end) {
    auto span = static_cast<Event*>(end)->time - static_cast<Event*>(start)->time;
    *milliseconds = std::chrono::duration<float, std::milli>(span).count();
    return OK;
}

Status cuEventElapsedTime(float* milliseconds, void* start, void* end) {
    return cuEventElapsedTime_v2(milliseconds, start, end);
}

Status cuEventDestroy_v2(void* event) {
    delete static_cast<Event*>(event);
    return OK;
}

}  // extern "C"
