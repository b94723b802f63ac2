// In the place of CuPy's header, which needs a compiler for devices. No kernel here has complex numbers.
#pragma once
#include <complex>
using std::complex;
