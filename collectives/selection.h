// Which algorithm runs an operation. Pure: everything it reads is the same on all ranks.
#pragma once
#include <cstdint>
#include <string_view>

#include "collectives/algorithms.h"
#include "core/config.h"

namespace treadle {

struct SelectionInput {
  Collective collective = Collective::kBarrier;
  std::uint64_t bytes = 0;  // of the larger of input and output
  PlanInput plan;           // root and host map included
};

// Throws std::invalid_argument unless `wanted` is "auto" or in the table; for use before ranks and
// hosts are known.
void check_algorithm_name(Collective collective, std::string_view wanted);

// What the settings want of a collective; "auto" if they have no word for it.
std::string_view configured_algorithm(const Config& config, Collective collective);
// check_algorithm_name for every collective the settings name an algorithm for.
void check_algorithm_names(const Config& config);

// `wanted` is "auto" or an algorithm's name. Throws as check_algorithm_name, and kUnsupported for
// an algorithm that does not accept these ranks; the text lists what there is.
const Algorithm& select_algorithm(const SelectionInput& input, std::string_view wanted);

}  // namespace treadle
