// The two forms in which facts are printed to stdout.
#pragma once
#include <span>

#include "bench/treadle-info/facts.h"

namespace treadle {

void print_text(const Facts& facts);
void print_json(const Facts& facts);
void print_settings(std::span<const Setting> settings);

}  // namespace treadle
