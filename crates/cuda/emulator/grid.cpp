// Runs a grid: block after block, the threads of a block as fibers from barrier to barrier.
//
// The order of the threads is reversed from one barrier to the next, so that a kernel that lacks a barrier, and reads
// what another thread has still to write, is likely to give a wrong result.

#include "grid.h"

#include <ucontext.h>

#include <memory>
#include <vector>

Dim threadIdx, blockIdx, blockDim, gridDim;

namespace {

const std::size_t STACK = 64 * 1024;

struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[STACK]};
    bool done = true;
};

ucontext_t scheduler;
std::vector<std::unique_ptr<Fiber>> fibers;
Fiber* running;
const Kernel* current;
void** current_arguments;

void enter() {
    current->call(current_arguments);
    running->done = true;
    swapcontext(&running->context, &scheduler);
}

Dim thread(unsigned i) { return {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y}; }

void run_with_barriers(unsigned threads) {
    while (fibers.size() < threads) fibers.push_back(std::make_unique<Fiber>());
    for (unsigned i = 0; i < threads; i++) {
        Fiber& fiber = *fibers[i];
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.get();
        fiber.context.uc_stack.ss_size = STACK;
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, enter, 0);
        fiber.done = false;
    }
    bool left = true;
    for (bool reverse = false; left; reverse = !reverse) {
        left = false;
        for (unsigned j = 0; j < threads; j++) {
            unsigned i = reverse ? threads - 1 - j : j;
            if (fibers[i]->done) continue;
            running = fibers[i].get();
            threadIdx = thread(i);
            swapcontext(&scheduler, &running->context);
            left |= !running->done;
        }
    }
}

}  // namespace

void __syncthreads() { swapcontext(&running->context, &scheduler); }

void run(const Kernel& kernel, Dim grid, Dim block, void** arguments) {
    gridDim = grid;
    blockDim = block;
    current = &kernel;
    current_arguments = arguments;
    unsigned threads = block.x * block.y * block.z;
    for (unsigned z = 0; z < grid.z; z++) {
        for (unsigned y = 0; y < grid.y; y++) {
            for (unsigned x = 0; x < grid.x; x++) {
                blockIdx = {x, y, z};
                if (kernel.barriers) {
                    run_with_barriers(threads);
                    continue;
                }
                for (unsigned i = 0; i < threads; i++) {
                    threadIdx = thread(i);
                    kernel.call(arguments);
                }
            }
        }
    }
}
