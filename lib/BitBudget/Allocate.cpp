//===- Allocate.cpp - Bits for layers ---------------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/BitBudget/Allocate.h"
#include "llvm/ADT/STLExtras.h"
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <tuple>

using namespace quench;
using llvm::ArrayRef;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::SmallVector;

SmallVector<unsigned> quench::lowerHull(ArrayRef<BitOption> options) {
  SmallVector<unsigned> order(options.size());
  std::iota(order.begin(), order.end(), 0u);
  llvm::sort(order, [&](unsigned a, unsigned b) {
    return std::make_tuple(options[a].bits, options[a].distortion, a) <
           std::make_tuple(options[b].bits, options[b].distortion, b);
  });
  SmallVector<unsigned> hull;
  auto slope = [&](unsigned a, unsigned b) {
    return (options[a].distortion - options[b].distortion) /
           static_cast<double>(options[b].bits - options[a].bits);
  };
  for (unsigned next : order) {
    if (!hull.empty() &&
        (options[next].distortion >= options[hull.back()].distortion ||
         options[next].bits == options[hull.back()].bits))
      continue;
    while (hull.size() >= 2 && slope(hull[hull.size() - 2], hull.back()) <=
                                   slope(hull.back(), next))
      hull.pop_back();
    hull.push_back(next);
  }
  return hull;
}

namespace {

/// One step along the hull of a layer.
struct Upgrade {
  unsigned layer, from, to; // options
  int64_t bits;
  double gain;
  double slope() const { return gain / static_cast<double>(bits); }
};

/// A choice that changes by single steps and knows its sums.
class Chooser {
public:
  explicit Chooser(ArrayRef<LayerOptions> layers) : layers(layers) {}

  Error check() const;
  /// Every layer at the lower end of its hull; fills `upgrades`.
  void start();
  const BitOption &option(unsigned layer) const {
    return layers[layer][result.choice[layer]];
  }
  void choose(unsigned layer, unsigned to) {
    result.bits += layers[layer][to].bits - option(layer).bits;
    result.choice[layer] = to;
  }
  void sumDistortion() {
    result.distortion = 0;
    for (unsigned i = 0; i != layers.size(); ++i)
      result.distortion += option(i).distortion;
  }
  /// The best single change that saves distortion and needs at most `room`
  /// bits; false: there is none.
  bool fill(int64_t room);
  /// Looks for a choice that is better than this one. `base` is the best one of
  /// the relaxed problem without the step that does not fit, whose slope is
  /// `slope`. Exact unless there are too many partial choices.
  void search(ArrayRef<unsigned> base, double slope, int64_t budget);

  ArrayRef<LayerOptions> layers;
  std::vector<Upgrade> upgrades; // by falling slope
  Allocation result;
};

} // namespace

Error Chooser::check() const {
  for (auto [i, options] : llvm::enumerate(layers)) {
    if (options.empty())
      return createStringError("layer " + llvm::Twine(i) + " has no options");
    for (const BitOption &option : options)
      if (!std::isfinite(option.distortion) || option.bits < 0)
        return createStringError(
            "layer " + llvm::Twine(i) +
            ": an option whose bits or distortion is no usable number");
  }
  return Error::success();
}

void Chooser::start() {
  result = {};
  for (unsigned i = 0; i != layers.size(); ++i) {
    SmallVector<unsigned> hull = lowerHull(layers[i]);
    result.choice.push_back(hull.front());
    result.bits += layers[i][hull.front()].bits;
    for (size_t p = 1; p < hull.size(); ++p) {
      const BitOption &a = layers[i][hull[p - 1]], &b = layers[i][hull[p]];
      upgrades.push_back({i, hull[p - 1], hull[p], b.bits - a.bits,
                          a.distortion - b.distortion});
    }
  }
  // Slopes of one layer fall strictly: its steps stay in their order.
  llvm::sort(upgrades, [](const Upgrade &a, const Upgrade &b) {
    return std::make_tuple(-a.slope(), a.layer) <
           std::make_tuple(-b.slope(), b.layer);
  });
}

bool Chooser::fill(int64_t room) {
  double best = 0;
  unsigned layer = 0, to = 0;
  for (unsigned i = 0; i != layers.size(); ++i)
    for (unsigned o = 0; o != layers[i].size(); ++o) {
      int64_t bits = layers[i][o].bits - option(i).bits;
      double gain = option(i).distortion - layers[i][o].distortion;
      if (bits <= room && gain > best) {
        best = gain;
        layer = i;
        to = o;
      }
    }
  if (best <= 0)
    return false;
  choose(layer, to);
  return true;
}

void Chooser::search(ArrayRef<unsigned> base, double slope, int64_t budget) {
  // What a choice costs more than `base`, bits paid at `slope`, is its penalty:
  // not negative for any option, so that a partial choice whose penalty alone
  // closes the gap to the best known one leads nowhere.
  struct State {
    int64_t bits;    // more than base
    double gain;     // distortion less than base
    unsigned parent; // state of the layer before
    unsigned option;
  };
  constexpr size_t kMostStates = 2000;
  int64_t room = budget;
  double baseDistortion = 0;
  for (unsigned i = 0; i != layers.size(); ++i) {
    room -= layers[i][base[i]].bits;
    baseDistortion += layers[i][base[i]].distortion;
  }
  double gap =
      result.distortion - (baseDistortion - slope * static_cast<double>(room));
  auto penalty = [&](const State &state) {
    return slope * static_cast<double>(state.bits) - state.gain;
  };
  std::vector<std::vector<State>> all = {{{0, 0, 0, 0}}};
  for (unsigned i = 0; i != layers.size(); ++i) {
    std::vector<State> next;
    for (auto [s, state] : llvm::enumerate(all.back()))
      for (unsigned o = 0; o != layers[i].size(); ++o) {
        const BitOption &from = layers[i][base[i]], &to = layers[i][o];
        State made{state.bits + to.bits - from.bits,
                   state.gain + from.distortion - to.distortion,
                   static_cast<unsigned>(s), o};
        if (penalty(made) < gap)
          next.push_back(made);
      }
    // Only states that gain more than all with fewer bits.
    llvm::sort(next, [](const State &a, const State &b) {
      return std::make_tuple(a.bits, -a.gain, a.parent, a.option) <
             std::make_tuple(b.bits, -b.gain, b.parent, b.option);
    });
    double most = -std::numeric_limits<double>::infinity();
    llvm::erase_if(next, [&](const State &state) {
      bool dominated = state.gain <= most;
      most = std::max(most, state.gain);
      return dominated;
    });
    if (next.size() > kMostStates) {
      std::vector<double> penalties;
      for (const State &state : next)
        penalties.push_back(penalty(state));
      std::nth_element(penalties.begin(), penalties.begin() + kMostStates,
                       penalties.end());
      llvm::erase_if(next, [&](const State &state) {
        return penalty(state) >= penalties[kMostStates];
      });
    }
    all.push_back(std::move(next));
  }
  const State *best = nullptr;
  for (const State &state : all.back())
    if (state.bits <= room && (!best || state.gain > best->gain))
      best = &state;
  if (!best || baseDistortion - best->gain >= result.distortion)
    return;
  for (unsigned i = layers.size(); i-- > 0;) {
    choose(i, best->option);
    best = &all[i][best->parent];
  }
}

Expected<Allocation> quench::allocateBits(ArrayRef<LayerOptions> layers,
                                          int64_t budget) {
  Chooser chooser(layers);
  if (Error error = chooser.check())
    return error;
  chooser.start();
  Allocation &result = chooser.result;
  if (result.bits > budget)
    return createStringError("the smallest options need " +
                             llvm::Twine(result.bits) +
                             " bits, the budget has " + llvm::Twine(budget));
  chooser.sumDistortion();
  double bound = result.distortion;
  std::vector<unsigned> base = result.choice;
  bool open = true;
  // The first step that does not fit ends the relaxed problem; smaller ones
  // behind it may still fit, each only while its layer is on its hull.
  for (const Upgrade &upgrade : chooser.upgrades) {
    bool fits = upgrade.bits <= budget - result.bits;
    if (open && fits) {
      base[upgrade.layer] = upgrade.to;
      bound -= upgrade.gain;
    } else if (open) {
      result.slope = upgrade.slope();
      bound -= static_cast<double>(budget - result.bits) * upgrade.slope();
      open = false;
    }
    if (fits && result.choice[upgrade.layer] == upgrade.from)
      chooser.choose(upgrade.layer, upgrade.to);
  }
  result.bound = bound;
  if (!open) {
    while (chooser.fill(budget - result.bits)) {
    }
    chooser.sumDistortion();
    chooser.search(base, result.slope, budget);
  }
  chooser.sumDistortion();
  return result;
}

Expected<Allocation> quench::allocateDistortion(ArrayRef<LayerOptions> layers,
                                                double limit) {
  Chooser chooser(layers);
  if (Error error = chooser.check())
    return error;
  if (std::isnan(limit))
    return createStringError("the limit is not a number");
  double least = 0, most = 0;
  int64_t mostBits = 0;
  for (const LayerOptions &options : layers) {
    auto best =
        llvm::min_element(options, [](const BitOption &a, const BitOption &b) {
          return std::make_pair(a.distortion, a.bits) <
                 std::make_pair(b.distortion, b.bits);
        });
    least += best->distortion;
    mostBits += best->bits;
    most += std::fabs(best->distortion);
  }
  double slack = 1e-12 * most; // sums in another order
  if (least > limit + slack)
    return createStringError(
        "the best options have %g of distortion, the limit is %g", least,
        limit);
  // No choice has fewer bits than the relaxed problem needs for the limit.
  chooser.start();
  chooser.sumDistortion();
  double distortion = chooser.result.distortion;
  double bound = chooser.result.bits;
  for (const Upgrade &upgrade : chooser.upgrades) {
    if (distortion <= limit)
      break;
    bound +=
        std::min<double>(upgrade.bits, (distortion - limit) / upgrade.slope());
    distortion -= upgrade.gain;
  }
  int64_t low = std::max(chooser.result.bits,
                         static_cast<int64_t>(std::ceil(bound - 0.5)));
  // A greater budget hardly ever gives more distortion: bisect, and keep the
  // best that was seen.
  int64_t high = std::max(low, mostBits);
  Expected<Allocation> best = allocateBits(layers, high);
  while (best && low < high) {
    int64_t middle = low + (high - low) / 2;
    Expected<Allocation> found = allocateBits(layers, middle);
    if (!found)
      return found.takeError();
    if (found->distortion > limit + slack) {
      low = middle + 1;
      continue;
    }
    high = middle;
    if (found->bits < best->bits)
      best = std::move(found);
  }
  if (best)
    best->bound = bound;
  return best;
}

WaterLevel quench::fillWater(ArrayRef<double> variances, ArrayRef<double> sizes,
                             double rate) {
  WaterLevel level;
  double total = std::accumulate(sizes.begin(), sizes.end(), 0.0);
  auto bitsAt = [&](double logTheta) {
    double sum = 0;
    for (auto [variance, size] : llvm::zip(variances, sizes))
      sum += size * std::max(0.0, 0.5 * (std::log2(variance) - logTheta));
    return total > 0 ? sum / total : 0;
  };
  if (variances.empty())
    return level;
  double high = std::log2(*llvm::max_element(variances));
  double low = std::log2(*llvm::min_element(variances)) - 2 * rate - 1;
  for (unsigned step = 0; step != 200; ++step) {
    double middle = 0.5 * (low + high);
    (bitsAt(middle) > rate ? low : high) = middle;
  }
  level.theta = std::exp2(high);
  for (auto [variance, size] : llvm::zip(variances, sizes)) {
    double bits = std::max(0.0, 0.5 * (std::log2(variance) - high));
    level.bits.push_back(bits);
    level.distortion += size * variance * std::exp2(-2 * bits) / total;
  }
  return level;
}
