// What the parts of the stand-in share.
#pragma once
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))
typedef int Status;  // 0: all is well

namespace standin {
typedef std::function<void()> Work;
struct Shape {
    unsigned grid[3], block[3];
};
extern int device;                          // that computes
void give(void *stream, Work work);         // queue a piece of work
void finish_all();                          // do all work that is queued
void check_device(const void *pointer);     // end the process if memory is not of the device that computes
}  // namespace standin
