/* What calls kernels with numbers in memory needs: see build.py. */
#pragma once
#include "kernel.h"

/* The double whose bits these are. */
INLINE double number_of(i64 bits) {
  double number;
  memcpy(&number, &bits, sizeof number);
  return number;
}
