// The module: one register_* per file of this folder.
#include "bindings/register.h"

#include "core/allocator.h"
#include "core/parallel.h"

namespace {

namespace py = pybind11;

bool python_has_signal() {
    py::gil_scoped_acquire acquire;
    return PyErr_CheckSignals() != 0;
}

}  // namespace

PYBIND11_MODULE(GLASSGRAD_MODULE, m, py::mod_gil_not_used()) {
    namespace gg = glassgrad;
    m.doc() = "glassgrad's CPU kernels, compiled for one instruction set.";
    m.attr("isa") = GLASSGRAD_ISA_NAME;
    m.attr("compiler") = __VERSION__;
    m.attr("flags") = GLASSGRAD_FLAGS;
    m.def("num_threads", &gg::num_threads);
    m.def("set_num_threads", &gg::set_num_threads);
    m.def("empty_cache", &gg::empty_cache);
    m.def("allocator_stats", [] {
        const auto s = gg::allocator_stats();
        return py::dict(py::arg("in_use") = s.in_use, py::arg("cached") = s.cached, py::arg("hits") = s.hits,
                        py::arg("misses") = s.misses);
    });

    static py::exception<gg::Error> error(m, "KernelError", PyExc_RuntimeError);
    py::register_exception_translator([](std::exception_ptr p) {
        try {
            if (p) std::rethrow_exception(p);
        } catch (const gg::Interrupted&) {
            if (!PyErr_Occurred()) PyErr_SetNone(PyExc_KeyboardInterrupt);  // the hook left the signal's exception set
        } catch (const gg::Error& e) {
            py::set_error(error, e.what());
        }
    });
    gg::set_interrupt_hook(python_has_signal);
    gg::bindings::register_all(m);
}
