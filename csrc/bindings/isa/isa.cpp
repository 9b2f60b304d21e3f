// Which instruction sets this CPU has: asked before a kernel module is loaded, so compiled for the oldest one.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "core/cpu_features.h"

namespace {

/// Best first.
std::vector<std::string> supported() {
    std::vector<std::string> names;
#if defined(__x86_64__)
    if (glassgrad::cpu_runs_avx512()) names.push_back("avx512");
    if (glassgrad::cpu_runs_avx2()) names.push_back("avx2");
#endif
    names.push_back("baseline");
    return names;
}

}  // namespace

PYBIND11_MODULE(_isa, m, pybind11::mod_gil_not_used()) {
    m.doc() = "CPU feature detection.";
    m.def("supported", &supported, "Names of the instruction sets this CPU runs, best first.");
}
