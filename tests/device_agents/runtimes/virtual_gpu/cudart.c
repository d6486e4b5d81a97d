/* A GPU that is not there: CUDA's runtime calls over ordinary memory, as strict as the real ones where it matters.
 *
 * Nothing that is put on a stream happens before the stream is synchronised, so a caller that does not wait sees old
 * values; memory knows on which side it lies, so a copy in the wrong direction, or past an end, is refused.
 * Error numbers are CUDA's. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DIRECTION = 21, SET_ON_ACTIVE = 708 };
enum { MOST = 256, TO_DEVICE = 1, TO_HOST = 2 };

struct block { char *start; size_t size; int on_device; };
struct work { void *to; const void *from; size_t size; float factor; void (*call)(void); };

static struct block blocks[MOST];
static struct work queue[MOST];
static int queued, active;

static struct block *find(const void *address, size_t size, int on_device) {
    for (int i = 0; i < MOST; i++)
        if (blocks[i].start && blocks[i].on_device == on_device && (const char *)address >= blocks[i].start
            && (const char *)address + size <= blocks[i].start + blocks[i].size)
            return &blocks[i];
    return NULL;
}

static int allocate(void **address, size_t size, int on_device) {
    active = 1;
    for (int i = 0; i < MOST; i++)
        if (!blocks[i].start) {
            blocks[i] = (struct block){calloc(1, size), size, on_device};
            *address = blocks[i].start;
            return SUCCESS;
        }
    return OUT_OF_MEMORY;
}

static int enqueue(void *to, const void *from, size_t size, float factor) {
    queue[queued++] = (struct work){to, from, size, factor, NULL};
    return queued < MOST ? SUCCESS : OUT_OF_MEMORY;
}

const char *cudaGetErrorString(int code) {
    return code == OUT_OF_MEMORY ? "out of memory"
         : code == INVALID_DIRECTION ? "invalid copy direction for memcpy"
         : code == SET_ON_ACTIVE ? "cannot set while device is active in this process"
         : code ? "invalid argument" : "no error";
}

int cudaRuntimeGetVersion(int *version) { *version = 10020; return SUCCESS; }
int cudaGetDeviceCount(int *count) { *count = 1; return SUCCESS; }
int cudaGetDeviceProperties(char *properties, int device) { strcpy(properties, "Virtual GPU"); return device; }

/* VIRTUAL_SM is its compute capability: 53, a Jetson Nano's, unless told. */
int cudaDeviceGetAttribute(int *value, int attribute, int device) {
    const char *told = getenv("VIRTUAL_SM");
    int capability = told ? atoi(told) : 53;
    *value = attribute == 75 ? capability / 10 : capability % 10;
    return device;
}

int cudaSetDeviceFlags(unsigned flags) { return active ? SET_ON_ACTIVE : flags == 1 || flags == 4 ? SUCCESS : INVALID_VALUE; }
int cudaMalloc(void **address, size_t size) { return allocate(address, size, 1); }
int cudaMallocHost(void **address, size_t size) { return allocate(address, size, 0); }
int cudaStreamCreate(void **stream) { active = 1; *stream = (void *)(uintptr_t)77; return SUCCESS; }

int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, void *stream) {
    if (stream != (void *)(uintptr_t)77 || (kind != TO_DEVICE && kind != TO_HOST))
        return INVALID_VALUE;
    if (!find(to, size, kind == TO_DEVICE) || !find(from, size, kind == TO_HOST))
        return INVALID_DIRECTION;
    return enqueue(to, from, size, 0);
}

/* A network that somebody else computes, in the stream's turn. */
int virtualCall(void (*call)(void), void *stream) {
    if (stream != (void *)(uintptr_t)77 || queued + 1 >= MOST)
        return INVALID_VALUE;
    queue[queued++] = (struct work){NULL, NULL, 0, 0, call};
    return SUCCESS;
}

/* The only network of its own: to = factor * from, for float32 on the device. */
int virtualScale(void *to, const void *from, size_t size, float factor, void *stream) {
    if (stream != (void *)(uintptr_t)77 || !find(to, size, 1) || !find(from, size, 1))
        return INVALID_VALUE;
    return enqueue(to, from, size, factor);
}

int cudaStreamSynchronize(void *stream) {
    for (int i = 0; i < queued; i++) {
        if (queue[i].call)
            queue[i].call();
        else if (queue[i].factor == 0)
            memcpy(queue[i].to, queue[i].from, queue[i].size);
        for (size_t k = 0; queue[i].factor != 0 && k < queue[i].size / sizeof(float); k++)
            ((float *)queue[i].to)[k] = queue[i].factor * ((const float *)queue[i].from)[k];
    }
    queued = 0;
    return stream == (void *)(uintptr_t)77 ? SUCCESS : INVALID_VALUE;
}
