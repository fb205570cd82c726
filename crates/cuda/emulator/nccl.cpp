// NCCL between threads and processes of one machine, through sockets: the functions that the backend calls, and no others.
//
// As in the real one a communicator that does not block returns from every call at once and works on a thread of its own; its
// exchanges are under way on the stream that they were given. A rank that is gone leaves the others waiting until they are
// aborted, which is the worst that the real one does.

#include <arpa/inet.h>
#include <dlfcn.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "stream.h"

typedef int Result;

namespace {

const Result OK = 0, UNHANDLED = 1, INTERNAL = 3, INVALID_ARGUMENT = 4, INVALID_USAGE = 5, IN_PROGRESS = 7;
const int BYTES = 1, FLOATS = 7, SUM = 0;
const unsigned MAGIC = 0xcafebeef;

struct Id {
    char bytes[128];
};

struct Config {
    std::size_t size;
    unsigned magic, version;
    int blocking;
};

// What a rank sends of an exchange before its numbers.
struct Header {
    int sum;
    std::size_t bytes;
};

struct Exchange {
    Header header;
    const void* from;
    void* to;
    Stream* stream;
};

// The device of this thread, of which the driver knows: what the real one asks the runtime.
int current_device() {
    void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    auto ask = driver ? reinterpret_cast<int (*)(int*)>(dlsym(driver, "cuCtxGetDevice")) : nullptr;
    int device = -1;
    return ask && ask(&device) == 0 ? device : -1;
}

bool put(int socket, const void* from, std::size_t bytes) {
    auto at = static_cast<const char*>(from);
    while (bytes > 0) {
        ssize_t n = send(socket, at, bytes, MSG_NOSIGNAL);
        if (n <= 0) return false;
        at += n;
        bytes -= n;
    }
    return true;
}

bool get(int socket, void* to, std::size_t bytes) {
    auto at = static_cast<char*>(to);
    while (bytes > 0) {
        ssize_t n = recv(socket, at, bytes, 0);
        if (n <= 0) return false;
        at += n;
        bytes -= n;
    }
    return true;
}

struct Communicator {
    int rank, count, device, listener = -1;
    unsigned short port = 0;
    // Of rank 0 one for each other rank, in order; of the others one, to rank 0.
    std::vector<int> sockets;
    // All that are open, for whoever ends it.
    std::vector<int> open;
    std::atomic<int> state{IN_PROGRESS};
    std::atomic<bool> ended{false};
    std::deque<Exchange> waiting;
    bool finalizing = false;
    std::mutex mutex;
    std::condition_variable changed;
    std::thread worker;

    // Whether it is not ended yet, so that a socket may be used.
    bool keep(int socket) {
        std::lock_guard<std::mutex> lock(mutex);
        open.push_back(socket);
        return !ended;
    }

    // Rank 0 waits for all others and lets nobody in with the device of another; false if it was aborted.
    bool meet() {
        Result found = OK;
        if (rank == 0) {
            std::vector<int> devices(count, -1);
            devices[0] = device;
            sockets.assign(count - 1, -1);
            for (int i = 1; i < count; i++) {
                int socket = accept(listener, nullptr, nullptr), theirs[2];
                if (socket < 0 || !keep(socket) || !get(socket, theirs, sizeof theirs)) return false;
                sockets[theirs[0] - 1] = socket;
                for (int known : devices) found = known == theirs[1] ? INVALID_USAGE : found;
                devices[theirs[0]] = theirs[1];
            }
            for (int socket : sockets) put(socket, &found, sizeof found);
        } else {
            sockaddr_in address{};
            address.sin_family = AF_INET;
            address.sin_port = htons(port);
            address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
            int socket = ::socket(AF_INET, SOCK_STREAM, 0), mine[2] = {rank, device};
            sockets.push_back(socket);
            if (!keep(socket)) return false;
            bool there = connect(socket, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
            if (!there || !put(socket, mine, sizeof mine) || !get(socket, &found, sizeof found)) return false;
        }
        state = found;
        return found == OK;
    }

    bool make(const Exchange& exchange) {
        std::size_t bytes = exchange.header.bytes, answer = exchange.header.sum ? bytes : bytes * count;
        auto from = static_cast<const char*>(exchange.from);
        auto to = static_cast<char*>(exchange.to);
        if (rank > 0) {
            int socket = sockets[0];
            return put(socket, &exchange.header, sizeof exchange.header) && put(socket, from, bytes) &&
                   get(socket, to, answer);
        }
        std::vector<char> all(from, from + bytes);
        all.resize(bytes * count);
        for (int i = 1; i < count; i++) {
            Header theirs;
            if (!get(sockets[i - 1], &theirs, sizeof theirs)) return false;
            if (theirs.sum != exchange.header.sum || theirs.bytes != bytes) {
                fprintf(stderr, "emulator: rank %d gives %zu bytes to NCCL and rank 0 gives %zu\n", i, theirs.bytes, bytes);
                abort();
            }
            if (!get(sockets[i - 1], &all[i * bytes], bytes)) return false;
        }
        if (exchange.header.sum) {
            // From the last rank to the first: another order than that of a tree.
            std::vector<float> sum(bytes / 4);
            memcpy(sum.data(), &all[(count - 1) * bytes], bytes);
            for (int i = count - 2; i >= 0; i--) {
                std::vector<float> part(bytes / 4);
                memcpy(part.data(), &all[i * bytes], bytes);
                for (std::size_t j = 0; j < part.size(); j++) sum[j] += part[j];
            }
            memcpy(all.data(), sum.data(), bytes);
        }
        for (int socket : sockets) {
            if (!put(socket, all.data(), answer)) return false;
        }
        memcpy(to, all.data(), answer);
        return true;
    }

    void work() {
        if (!meet()) return;
        for (;;) {
            std::unique_lock<std::mutex> lock(mutex);
            changed.wait(lock, [&] { return ended || finalizing || !waiting.empty(); });
            if (ended) return;
            if (waiting.empty()) {
                state = OK;
                return;
            }
            Exchange next = waiting.front();
            waiting.pop_front();
            lock.unlock();
            // A call that does not block may come back long before anything is on the stream.
            usleep(300);
            next.stream->exchanges++;
            state = OK;
            usleep(300);
            bool made = make(next);
            // What fails stays under way.
            while (!made && !ended) usleep(1000);
            next.stream->exchanges--;
        }
    }

    Result queue(Exchange exchange) {
        if (current_device() != device) return UNHANDLED;
        std::lock_guard<std::mutex> lock(mutex);
        // Only when it was ready it may be called again.
        if (state != OK) return state == IN_PROGRESS ? INVALID_USAGE : state.load();
        state = IN_PROGRESS;
        waiting.push_back(exchange);
        changed.notify_all();
        return IN_PROGRESS;
    }

    void stop() {
        {
            std::lock_guard<std::mutex> lock(mutex);
            ended = true;
            if (listener >= 0) shutdown(listener, SHUT_RDWR);
            for (int socket : open) shutdown(socket, SHUT_RDWR);
        }
        changed.notify_all();
        worker.join();
        for (int socket : open) close(socket);
        if (listener >= 0) close(listener);
    }
};

// The sockets that made ids, until their communicator takes them.
std::mutex listening;
std::vector<std::pair<unsigned short, int>> listeners;

}  // namespace

extern "C" {

Result ncclGetVersion(int* version) {
    *version = 21400;
    return OK;
}

const char* ncclGetErrorString(Result result) {
    switch (result) {
        case INVALID_USAGE: return "invalid usage, in the emulator";
        case INVALID_ARGUMENT: return "invalid argument, in the emulator";
        case UNHANDLED: return "no device of this communicator is current, in the emulator";
        default: return "an error of the emulator";
    }
}

Result ncclGetUniqueId(Id* id) {
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    if (bind(listener, reinterpret_cast<sockaddr*>(&address), length) || listen(listener, 64)) return INTERNAL;
    getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length);
    unsigned short port = ntohs(address.sin_port);
    memset(id, 0, sizeof *id);
    memcpy(id, &port, sizeof port);
    std::lock_guard<std::mutex> lock(listening);
    listeners.emplace_back(port, listener);
    return OK;
}

Result ncclCommInitRankConfig(void** communicator, int count, Id id, int rank, Config* config) {
    bool known = config && config->size >= sizeof *config && config->magic == MAGIC && config->version >= 21400;
    if (!known || config->blocking != 0 || rank < 0 || rank >= count) return INVALID_ARGUMENT;
    int device = current_device();
    if (device < 0) return UNHANDLED;
    auto made = new Communicator();
    made->rank = rank;
    made->count = count;
    made->device = device;
    memcpy(&made->port, &id, sizeof made->port);
    if (rank == 0) {
        std::lock_guard<std::mutex> lock(listening);
        for (auto& [port, listener] : listeners) {
            if (port == made->port) std::swap(made->listener, listener);
        }
        if (made->listener < 0) return INVALID_ARGUMENT;
    }
    made->worker = std::thread([made] { made->work(); });
    *communicator = made;
    return IN_PROGRESS;
}

Result ncclCommGetAsyncError(void* communicator, Result* state) {
    *state = static_cast<Communicator*>(communicator)->state;
    return OK;
}

Result ncclAllGather(const void* from, void* to, std::size_t count, int type, void* communicator, void* stream) {
    if (type != BYTES) return INVALID_ARGUMENT;
    Header header{0, count};
    return static_cast<Communicator*>(communicator)->queue({header, from, to, static_cast<Stream*>(stream)});
}

Result ncclAllReduce(const void* from, void* to, std::size_t count, int type, int op, void* communicator, void* stream) {
    if (type != FLOATS || op != SUM) return INVALID_ARGUMENT;
    Header header{1, 4 * count};
    return static_cast<Communicator*>(communicator)->queue({header, from, to, static_cast<Stream*>(stream)});
}

Result ncclCommFinalize(void* communicator) {
    auto of = static_cast<Communicator*>(communicator);
    if (of->state != OK) return INVALID_USAGE;
    std::lock_guard<std::mutex> lock(of->mutex);
    of->finalizing = true;
    of->state = IN_PROGRESS;
    of->changed.notify_all();
    return IN_PROGRESS;
}

Result ncclCommDestroy(void* communicator) {
    auto of = static_cast<Communicator*>(communicator);
    of->stop();
    delete of;
    return OK;
}

Result ncclCommAbort(void* communicator) { return ncclCommDestroy(communicator); }

}  // extern "C"
