// A CUDA driver with four devices, on the CPU: the functions that the backend calls, and no others.
//
// Memory is that of the host, every call is done when it returns unless it is recorded for a graph, and modules are
// ignored: kernels are looked up by name among those that were compiled into this library. Fresh memory is full of NaN, so that what is read before it is
// written shows; a frame behind every block is checked when the block is freed.

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>

#include "grid.h"
#include "stream.h"

typedef int Status;
typedef unsigned long long Pointer;

namespace {

const Status OK = 0, INVALID_VALUE = 1, INVALID_DEVICE = 101, INVALID_CONTEXT = 201, NOT_FOUND = 500, NOT_READY = 600, NOT_SUPPORTED = 801;
const Status ILLEGAL_STATE = 401, NOT_IN_CAPTURE = 900, CAPTURE_BROKEN = 901;
const int THREAD_LOCAL = 1;
const std::size_t HEAD = 64, FRAME = 64;
const unsigned char UNWRITTEN = 0xff, FRAME_BYTE = 0xa5;

std::mutex busy;
std::size_t used, most;
const int DEVICES = 4;
int contexts[DEVICES], the_module, the_pool;
thread_local void* current_context;
// The stream that this thread records; it may not make calls that would wait for it.
thread_local Stream* recording;

struct Event {
    std::chrono::steady_clock::time_point time;
    // Where it was recorded last, and the copies that it comes after.
    Stream* stream = nullptr;
    std::size_t copies = 0;
};

// Copies out of pinned memory are made as late as a card may make them: when somebody waits for them. What reads them
// without waiting reads NaN.
void make_copies(Stream* stream, std::size_t upto) {
    for (; stream->made < upto; stream->made++) stream->copies[stream->made - stream->dropped]();
    stream->copies.erase(stream->copies.begin(), stream->copies.begin() + (stream->made - stream->dropped));
    stream->dropped = stream->made;
}

std::map<const char*, std::size_t> pinned;

bool is_pinned(const void* pointer) {
    auto behind = pinned.upper_bound(static_cast<const char*>(pointer));
    if (behind == pinned.begin()) return false;
    --behind;
    return pointer < behind->first + behind->second;
}

struct Graph {
    Work work;
};

// For calls that no graph of this emulator can hold.
Status outside_capture(void* stream) {
    Stream* of = static_cast<Stream*>(stream);
    if (of == nullptr || !of->recorded) return OK;
    of->broken = true;
    return NOT_IN_CAPTURE;
}

// For calls that concern no stream.
Status outside_capture() { return recording ? outside_capture(recording) : OK; }

// A copy of a kernel's arguments.
struct Arguments {
    std::vector<std::unique_ptr<char[]>> values;
    std::vector<void*> pointers;

    Arguments(const std::size_t* sizes, void** from) {
        for (int i = 0; sizes[i] > 0; i++) {
            values.emplace_back(new char[sizes[i]]);
            memcpy(values[i].get(), from[i], sizes[i]);
            pointers.push_back(values[i].get());
        }
    }
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
    *count = DEVICES;
    return OK;
}

Status cuDeviceGet(int* device, int ordinal) {
    *device = ordinal;
    return ordinal >= 0 && ordinal < DEVICES ? OK : INVALID_DEVICE;
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

Status cuDevicePrimaryCtxRetain(void** context, int device) {
    *context = &contexts[device];
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

Status cuCtxGetDevice(int* device) {
    if (current_context == nullptr) return INVALID_CONTEXT;
    *device = static_cast<int*>(current_context) - contexts;
    return OK;
}

Status cuCtxSynchronize() { return outside_capture(); }

Status cuStreamCreate(void** stream, unsigned) {
    *stream = new Stream();
    return OK;
}

Status cuStreamDestroy_v2(void* stream) {
    delete static_cast<Stream*>(stream);
    return OK;
}

Status cuStreamQuery(void* stream) {
    if (Status status = outside_capture(stream)) return status;
    Stream* of = static_cast<Stream*>(stream);
    return of && of->exchanges > 0 ? NOT_READY : OK;
}

Status cuStreamSynchronize(void* stream) {
    if (Status status = outside_capture(stream)) return status;
    wait_for_exchanges(stream);
    std::lock_guard<std::mutex> lock(busy);
    Stream* of = static_cast<Stream*>(stream);
    make_copies(of, of->dropped + of->copies.size());
    return OK;
}

Status cuStreamWaitEvent(void* stream, void* event, unsigned) {
    if (Status status = outside_capture(stream)) return status;
    std::lock_guard<std::mutex> lock(busy);
    Event* of = static_cast<Event*>(event);
    if (of->stream) make_copies(of->stream, of->copies);
    return OK;
}

Status cuStreamBeginCapture_v2(void* stream, int mode) {
    Stream* of = static_cast<Stream*>(stream);
    if (of == nullptr || mode != THREAD_LOCAL) return NOT_SUPPORTED;
    if (of->recorded || recording) return ILLEGAL_STATE;
    of->recorded = true;
    recording = of;
    return OK;
}

Status cuStreamEndCapture(void* stream, void** graph) {
    *graph = nullptr;
    if (recording == nullptr || stream != recording) return ILLEGAL_STATE;
    Graph recorded{std::move(recording->work)};
    bool broken = recording->broken;
    recording->work.clear();
    recording->recorded = recording->broken = false;
    recording = nullptr;
    if (broken) return CAPTURE_BROKEN;
    *graph = new Graph(std::move(recorded));
    return OK;
}

Status cuGraphInstantiateWithFlags(void** instance, void* graph, unsigned long long flags) {
    if (flags != 0) return NOT_SUPPORTED;
    *instance = new Graph(*static_cast<Graph*>(graph));
    return OK;
}

Status cuGraphLaunch(void* instance, void* stream) {
    if (Status status = outside_capture(stream)) return status;
    for (const auto& work : static_cast<Graph*>(instance)->work) {
        if (Status status = work()) return status;
    }
    return OK;
}

Status cuGraphDestroy(void* graph) {
    delete static_cast<Graph*>(graph);
    return OK;
}

Status cuGraphExecDestroy(void* instance) { return cuGraphDestroy(instance); }

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

Status cuMemAllocAsync(Pointer* pointer, std::size_t bytes, void* stream) {
    if (Status status = outside_capture(stream)) return status;
    wait_for_exchanges(stream);
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

Status cuMemFreeAsync(Pointer pointer, void* stream) {
    if (Status status = outside_capture(stream)) return status;
    wait_for_exchanges(stream);
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

Status cuMemAlloc_v2(Pointer* pointer, std::size_t bytes) { return cuMemAllocAsync(pointer, bytes, nullptr); }

Status cuMemFree_v2(Pointer pointer) { return cuMemFreeAsync(pointer, nullptr); }

Status cuMemcpyHtoDAsync_v2(Pointer to, const void* from, std::size_t bytes, void* stream) {
    if (Status status = outside_capture(stream)) return status;
    wait_for_exchanges(stream);
    std::lock_guard<std::mutex> lock(busy);
    auto copy = [=] { memcpy(reinterpret_cast<void*>(to), from, bytes); };
    if (is_pinned(from)) {
        static_cast<Stream*>(stream)->copies.push_back(copy);
    } else {
        copy();
    }
    return OK;
}

Status cuMemHostAlloc(void** pointer, std::size_t bytes, unsigned) {
    std::lock_guard<std::mutex> lock(busy);
    *pointer = malloc(bytes);
    pinned[static_cast<char*>(*pointer)] = bytes;
    return OK;
}

Status cuMemFreeHost(void* pointer) {
    std::lock_guard<std::mutex> lock(busy);
    pinned.erase(static_cast<char*>(pointer));
    free(pointer);
    return OK;
}

Status cuMemcpyDtoHAsync_v2(void* to, Pointer from, std::size_t bytes, void* stream) {
    if (Status status = outside_capture(stream)) return status;
    wait_for_exchanges(stream);
    memcpy(to, reinterpret_cast<void*>(from), bytes);
    return OK;
}

Status cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, std::size_t bytes, void* stream) {
    return queue(stream, [=] {
        memcpy(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), bytes);
        return OK;
    });
}

Status cuMemsetD8Async(Pointer to, unsigned char byte, std::size_t bytes, void* stream) {
    return queue(stream, [=] {
        memset(reinterpret_cast<void*>(to), byte, bytes);
        return OK;
    });
}

Status cuModuleLoadData(void** module, const void*) {
    if (Status status = outside_capture()) return status;
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
                      unsigned shared, void* stream, void** arguments, void**) {
    bool fits = gx && gy && gz && bx && by && bz && gy < 65536 && gz < 65536 && bx * by * bz <= 1024 && shared == 0;
    if (!fits) return INVALID_VALUE;
    const Kernel& kernel = *static_cast<Kernel*>(function);
    auto kept = std::make_shared<Arguments>(kernel.sizes, arguments);
    return queue(stream, [=, &kernel] {
        std::lock_guard<std::mutex> lock(busy);
        run(kernel, {gx, gy, gz}, {bx, by, bz}, kept->pointers.data());
        return OK;
    });
}

Status cuEventCreate(void** event, unsigned) {
    *event = new Event();
    return OK;
}

Status cuEventRecord(void* event, void* stream) {
    if (Status status = outside_capture(stream)) return status;
    std::lock_guard<std::mutex> lock(busy);
    Stream* of = static_cast<Stream*>(stream);
    std::size_t copies = of ? of->dropped + of->copies.size() : 0;
    *static_cast<Event*>(event) = {std::chrono::steady_clock::now(), of, copies};
    return OK;
}

Status cuEventQuery(void* event) {
    std::lock_guard<std::mutex> lock(busy);
    Event* of = static_cast<Event*>(event);
    return of->stream && of->stream->made < of->copies ? NOT_READY : OK;
}

Status cuEventSynchronize(void* event) {
    std::lock_guard<std::mutex> lock(busy);
    Event* of = static_cast<Event*>(event);
    if (of->stream) make_copies(of->stream, of->copies);
    return OK;
}

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
