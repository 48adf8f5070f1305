#include "simd_stub.h"

#define ISA(name) name##_generic

#include "vector_generic.h"
#include "simd_body.h"
