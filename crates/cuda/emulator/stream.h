// A stream of the emulator: does what is queued at once, or records it; copies out of pinned memory wait. Shared by the
// driver and the libraries.

#pragma once

#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <functional>
#include <utility>
#include <vector>

typedef std::vector<std::function<int()>> Work;

struct Stream {
    bool recorded = false;
    // Whether a call was made while it was recorded that no graph can hold.
    bool broken = false;
    Work work;
    // Copies from the host that wait, how many were made, and how many of the first are no longer in the list.
    std::vector<std::function<void()>> copies;
    std::size_t made = 0, dropped = 0;
    // Work of NCCL that is under way on a thread of its own; whatever comes behind it waits, however long that takes.
    std::atomic<int> exchanges{0};
};

inline void wait_for_exchanges(void* stream) {
    Stream* of = static_cast<Stream*>(stream);
    while (of && of->exchanges > 0) usleep(50);
}

// `work` owns all that it needs but device memory. Returns its status, or 0 if it is recorded.
template <class F>
int queue(void* stream, F work) {
    Stream* to = static_cast<Stream*>(stream);
    if (to == nullptr || !to->recorded) {
        wait_for_exchanges(stream);
        return work();
    }
    to->work.push_back(std::move(work));
    return 0;
}
