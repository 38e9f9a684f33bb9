// What Python sees of the shim: Options and ProcessGroupTreadle. The package `treadle` wraps both.
#include <pybind11/chrono.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/utils/pybind.h>

#include <torch/csrc/distributed/c10d/Types.hpp>

#include "plugins/torch/backend.h"

namespace {

using treadle::Recorder;
using treadle::TreadleBackend;
using treadle::TreadleOptions;

double seconds(treadle::Clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

c10::intrusive_ptr<TreadleOptions> copy_of(const TreadleOptions& options) {
  return c10::make_intrusive<TreadleOptions>(options);
}

c10::intrusive_ptr<TreadleBackend> make_backend(const c10::intrusive_ptr<c10d::Store>& store,
                                                int rank, int size,
                                                const c10::intrusive_ptr<TreadleOptions>& options,
                                                const std::string& group_name,
                                                const std::vector<int>& global_ranks,
                                                const c10::intrusive_ptr<TreadleBackend>& parent) {
  HANDLE_TH_ERRORS
  const py::gil_scoped_release without_gil;
  return c10::make_intrusive<TreadleBackend>(
      store, rank, size, options, TreadleBackend::Membership{group_name, global_ranks, parent});
  END_HANDLE_TH_ERRORS_PYBIND
}

py::dict stats_of(TreadleBackend& backend) {
  py::dict by_operation;
  std::uint64_t operations = 0;
  std::uint64_t size_bytes = 0;
  double total = 0;
  for (const Recorder::Totals& row : backend.recorder().totals()) {
    py::dict entry;
    entry["operations"] = row.operations;
    entry["bytes"] = row.size_bytes;
    entry["failures"] = row.failures;
    entry["seconds"] = seconds(row.duration);
    by_operation[py::str(std::string(row.name))] = entry;
    operations += row.operations;
    size_bytes += row.size_bytes;
    total += seconds(row.duration);
  }
  py::dict stats;
  stats["operations"] = operations;
  stats["bytes"] = size_bytes;
  stats["seconds"] = total;
  stats["seconds_waited"] = seconds(backend.recorder().waited());
  stats["by_operation"] = by_operation;
  return stats;
}

std::int64_t nanoseconds(treadle::Clock::duration duration) {
  return std::chrono::nanoseconds(duration).count();
}

py::list stop_trace(TreadleBackend& backend) {
  py::list events;
  for (const treadle::Record& record : backend.recorder().stop_trace()) {
    py::dict event;
    event["name"] = std::string(record.name);
    event["sequence"] = record.sequence;
    event["bytes"] = record.size_bytes;
    event["begin_ns"] = nanoseconds(record.begin.time_since_epoch());
    event["duration_ns"] = nanoseconds(record.duration);
    event["failed"] = record.failed;
    events.append(event);
  }
  return events;
}

void bind_options(py::module_& module) {
  py::class_<TreadleOptions, c10::intrusive_ptr<TreadleOptions>, c10d::Backend::Options>(
      module, "Options", "Options of a treadle process group: pass them as pg_options.")
      .def(py::init([](std::chrono::milliseconds timeout) {
             return c10::make_intrusive<TreadleOptions>(timeout);
           }),
           py::arg("timeout") = kBackendDefaultTimeout)
      .def_readwrite("timeout", &TreadleOptions::timeout)
      .def("__copy__", &copy_of)
      .def("__deepcopy__",
           [](const TreadleOptions& self, const py::dict&) { return copy_of(self); });
}

void bind_backend(py::module_& module) {
  using torch::wrap_pybind_function;
  using torch::wrap_pybind_function_no_gil;
  py::class_<TreadleBackend, c10::intrusive_ptr<TreadleBackend>, c10d::Backend>(
      module, "ProcessGroupTreadle")
      .def(py::init(&make_backend), py::arg("store"), py::arg("rank"), py::arg("size"),
           py::arg("options"), py::arg("group_name"), py::arg("global_ranks"),
           py::arg("parent") = nullptr)
      .def("set_timeout", wrap_pybind_function_no_gil(&TreadleBackend::setTimeout),
           py::arg("timeout"))
      .def("_set_default_timeout", wrap_pybind_function_no_gil(&TreadleBackend::setTimeout),
           py::arg("timeout"))
      .def("abort", wrap_pybind_function_no_gil(&TreadleBackend::abort))
      .def("shutdown", wrap_pybind_function_no_gil(&TreadleBackend::shutdown))
      .def("perform_nocolor_split", [](TreadleBackend&, const py::object&) {})
      .def("_abort_because", wrap_pybind_function_no_gil(&TreadleBackend::abort_because))
      .def("_usable_here", &TreadleBackend::usable_here)
      .def("_failure", wrap_pybind_function_no_gil(&TreadleBackend::failure))
      .def("_links", wrap_pybind_function_no_gil(&TreadleBackend::links))
      .def("_group_name", [](const TreadleBackend& self) { return self.getGroupUid(); })
      .def("_stats", &stats_of)
      .def("_start_trace",
           [](TreadleBackend& self, std::size_t events) { self.recorder().start_trace(events); })
      .def("_stop_trace", &stop_trace)
      .def("_trace_dropped", [](TreadleBackend& self) { return self.recorder().dropped(); });
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  py::module_::import("torch._C._distributed_c10d");
  module.attr("torch_version") =
      std::to_string(TORCH_VERSION_MAJOR) + "." + std::to_string(TORCH_VERSION_MINOR);
  module.attr("__version__") = TREADLE_VERSION;
  bind_options(module);
  bind_backend(module);
}
