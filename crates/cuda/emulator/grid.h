// Running a kernel over a grid.

#pragma once

#include "host.h"

// Returns when all threads have ended. One caller at a time.
void run(const Kernel& kernel, Dim grid, Dim block, void** arguments);
