#include "bindings/arguments.h"
#include "bindings/register.h"
#include "core/kernels.h"

namespace glassgrad::bindings {

namespace {

struct Argument {
    const char* name;
    const py::sequence& arrays;
    bool wanted = true;
};

/// The arrays of a step: params, grads, then what the optimizer remembers, each list as long as the first and of its
/// shapes. All is checked before any of it is changed.
class Step {
  public:
    Step(const char* op, std::initializer_list<Argument> arguments) : op_(op) {
        for (const Argument& argument : arguments) {
            lists_.emplace_back();
            if (!argument.wanted) continue;
            for (py::handle item : argument.arrays) add(argument.name, item);
            expect_one_each(argument.name, lists_.back().size());
        }
    }

    std::size_t count() const { return lists_[PARAMS].size(); }
    void expect_one_each(const char* name, std::size_t length) const {
        if (length != count())
            fail(op_, std::string("length of ") + name, std::to_string(length),
                 "one for each of " + std::to_string(count()) + " params");
    }

    /// f(T()) where all arrays are of T, contiguous and aligned, else not_implemented(). Gradients may lie anyhow: they
    /// are copied.
    template <class F>
    py::object apply(F&& f) {
        if (are_native<float>())
            f(float{});
        else if (are_native<double>())
            f(double{});
        else
            return not_implemented();
        return py::none();
    }
    /// nullptr in a list that is not wanted.
    template <class T>
    T* at(std::size_t list, std::size_t i) const {
        return lists_[list].empty() ? nullptr : static_cast<T*>(const_cast<void*>(lists_[list][i].data()));
    }
    i64 size(std::size_t i) const { return lists_[PARAMS][i].size(); }
    i64 size() const {
        i64 total = 0;
        for (const py::array& param : lists_[PARAMS]) total += param.size();
        return total;
    }

  private:
    static constexpr std::size_t PARAMS = 0, GRADS = 1;

    void add(const char* name, py::handle item) {
        const std::size_t list = lists_.size() - 1, i = lists_[list].size();
        const std::string what = std::string(name) + "[" + std::to_string(i) + "]";
        if (!py::isinstance<py::array>(item)) fail(op_, what, Py_TYPE(item.ptr())->tp_name, "a NumPy array");
        auto array = py::reinterpret_borrow<py::array>(item);
        if (list != PARAMS && i < count()) expect_shape(op_, what.c_str(), array, shape_of(lists_[PARAMS][i]));
        if (list != GRADS && !array.writeable()) fail(op_, what, "a read-only array", "one that can be written");
        lists_[list].push_back(std::move(array));
    }
    template <class T>
    static bool is_plain(const py::array& a) {
        return is_contiguous(a) && reinterpret_cast<std::uintptr_t>(a.data()) % alignof(T) == 0;
    }
    template <class T>
    bool are_native() {
        for (std::size_t list = 0; list < lists_.size(); ++list)
            for (const py::array& a : lists_[list])
                if (!is_native<T>(a) || (list != GRADS && !is_plain<T>(a))) return false;
        for (py::array& grad : lists_[GRADS])
            if (!is_plain<T>(grad)) grad = grad.attr("copy")();
        return true;
    }

    const char* op_;
    std::vector<std::vector<py::array>> lists_;
};

py::object sgd(const py::sequence& params, const py::sequence& grads, const py::sequence& momentum_buffers,
               const std::vector<bool>& first, double lr, double momentum, double dampening, double weight_decay,
               bool nesterov, bool maximize) {
    const bool remembers = momentum != 0;
    Step step("sgd_step", {{"params", params}, {"grads", grads}, {"momentum_buffers", momentum_buffers, remembers}});
    if (remembers) step.expect_one_each("first", first.size());
    return step.apply([&]<class T>(T) {
        std::vector<SgdParameter<T>> parameters;
        for (std::size_t i = 0; i < step.count(); ++i)
            parameters.push_back(
                {step.at<T>(0, i), step.at<T>(1, i), step.at<T>(2, i), step.size(i), remembers && first[i]});
        const SgdOptions options{lr, momentum, dampening, weight_decay, nesterov, maximize};
        run(step.size(), [&] { sgd_step(parameters.data(), std::ssize(parameters), options); });
    });
}

py::object adam(const py::sequence& params, const py::sequence& grads, const py::sequence& exp_avgs,
                const py::sequence& exp_avg_sqs, const py::sequence& max_exp_avg_sqs, const std::vector<i64>& steps,
                double lr, double beta1, double beta2, double eps, double weight_decay, bool decoupled, bool amsgrad,
                bool maximize) {
    Step step("adam_step", {{"params", params},
                            {"grads", grads},
                            {"exp_avgs", exp_avgs},
                            {"exp_avg_sqs", exp_avg_sqs},
                            {"max_exp_avg_sqs", max_exp_avg_sqs, amsgrad}});
    step.expect_one_each("steps", steps.size());
    for (std::size_t i = 0; i < steps.size(); ++i)
        if (steps[i] < 1)
            fail("adam_step", "steps[" + std::to_string(i) + "]", std::to_string(steps[i]),
                 "1 or more: the first step counts as 1");
    return step.apply([&]<class T>(T) {
        std::vector<AdamParameter<T>> parameters;
        for (std::size_t i = 0; i < step.count(); ++i)
            parameters.push_back({step.at<T>(0, i), step.at<T>(1, i), step.at<T>(2, i), step.at<T>(3, i),
                                  step.at<T>(4, i), step.size(i), steps[i]});
        const AdamOptions options{lr, beta1, beta2, eps, weight_decay, decoupled, maximize};
        run(step.size(), [&] { adam_step(parameters.data(), std::ssize(parameters), options); });
    });
}

py::object rmsprop(const py::sequence& params, const py::sequence& grads, const py::sequence& square_avgs,
                   const py::sequence& momentum_buffers, const py::sequence& grad_avgs, double lr, double alpha,
                   double eps, double weight_decay, double momentum, bool centered, bool maximize) {
    Step step("rmsprop_step", {{"params", params},
                               {"grads", grads},
                               {"square_avgs", square_avgs},
                               {"momentum_buffers", momentum_buffers, momentum != 0},
                               {"grad_avgs", grad_avgs, centered}});
    return step.apply([&]<class T>(T) {
        std::vector<RmspropParameter<T>> parameters;
        for (std::size_t i = 0; i < step.count(); ++i)
            parameters.push_back({step.at<T>(0, i), step.at<T>(1, i), step.at<T>(2, i), step.at<T>(3, i),
                                  step.at<T>(4, i), step.size(i)});
        const RmspropOptions options{lr, alpha, eps, weight_decay, momentum, maximize};
        run(step.size(), [&] { rmsprop_step(parameters.data(), std::ssize(parameters), options); });
    });
}

py::object adagrad(const py::sequence& params, const py::sequence& grads, const py::sequence& state_sums,
                   const std::vector<double>& lr, double eps, double weight_decay, bool maximize) {
    Step step("adagrad_step", {{"params", params}, {"grads", grads}, {"state_sums", state_sums}});
    step.expect_one_each("lr", lr.size());
    return step.apply([&]<class T>(T) {
        std::vector<AdagradParameter<T>> parameters;
        for (std::size_t i = 0; i < step.count(); ++i)
            parameters.push_back({step.at<T>(0, i), step.at<T>(1, i), step.at<T>(2, i), step.size(i), lr[i]});
        const AdagradOptions options{eps, weight_decay, maximize};
        run(step.size(), [&] { adagrad_step(parameters.data(), std::ssize(parameters), options); });
    });
}

}  // namespace

void register_optim(py::module_& m) {
    using py::arg;
    m.def("sgd_step", sgd, arg("params"), arg("grads"), arg("momentum_buffers"), py::kw_only(), arg("first"), arg("lr"),
          arg("momentum"), arg("dampening"), arg("weight_decay"), arg("nesterov"), arg("maximize"));
    m.def("adam_step", adam, arg("params"), arg("grads"), arg("exp_avgs"), arg("exp_avg_sqs"), arg("max_exp_avg_sqs"),
          py::kw_only(), arg("steps"), arg("lr"), arg("beta1"), arg("beta2"), arg("eps"), arg("weight_decay"),
          arg("decoupled"), arg("amsgrad"), arg("maximize"));
    m.def("rmsprop_step", rmsprop, arg("params"), arg("grads"), arg("square_avgs"), arg("momentum_buffers"),
          arg("grad_avgs"), py::kw_only(), arg("lr"), arg("alpha"), arg("eps"), arg("weight_decay"), arg("momentum"),
          arg("centered"), arg("maximize"));
    m.def("adagrad_step", adagrad, arg("params"), arg("grads"), arg("state_sums"), py::kw_only(), arg("lr"), arg("eps"),
          arg("weight_decay"), arg("maximize"));
}

}  // namespace glassgrad::bindings
