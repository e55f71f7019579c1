//===- Codebook.cpp - Learned tables of vectors ---------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Quantization/Codebook.h"
#include "quench/Quantization/Parallel.h"
#include "llvm/ADT/SmallVector.h"
#include <algorithm>
#include <cmath>
#include <numeric>

using namespace quench;

/// Scores come in multiples of this number.
static constexpr int64_t kLanes = 16;
/// Points that a thread takes at a time.
static constexpr int64_t kChunk = 64;
/// Beyond so many clusters k-means++ takes too long.
static constexpr int64_t kMostSpread = 1024;
/// Beyond so many entries products of tables take too much memory.
static constexpr int64_t kMostProducts = 512;

/// The first of the least of n numbers, a multiple of kLanes.
static int64_t leastOf(const float *values, int64_t n) {
  float least[kLanes];
  std::copy_n(values, kLanes, least);
  for (int64_t i = kLanes; i < n; i += kLanes)
    for (int64_t lane = 0; lane < kLanes; ++lane)
      least[lane] =
          values[i + lane] < least[lane] ? values[i + lane] : least[lane];
  float all = *std::min_element(least, least + kLanes);
  for (int64_t i = 0; i < n; ++i)
    if (values[i] == all)
      return i;
  return 0; // not a number
}

//===----------------------------------------------------------------------===//
// Clusters
//===----------------------------------------------------------------------===//

namespace {

/// xorshift64*: numbers in [0, 1).
class Random {
public:
  explicit Random(uint64_t seed) : state(seed * 0x9e3779b97f4a7c15 + 1) {}
  double next() {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (state * 0x2545f4914f6cdd1d >> 11) * 0x1p-53;
  }

private:
  uint64_t state;
};

class Clusters {
public:
  Clusters(llvm::ArrayRef<float> points, int64_t width, const float *weights,
           const KMeansOptions &options)
      : points(points), width(width), count(points.size() / width),
        weights(weights), options(options), owner(count), distance(count) {}

  /// Centers and their error.
  std::vector<float> run(uint64_t seed, double &error) {
    std::vector<float> centers = start(Random(seed));
    error = assign(centers);
    for (int i = 0; i < options.iterations; ++i) {
      std::vector<float> next = means(centers);
      double now = assign(next);
      if (!(now < error))
        break;
      centers = std::move(next);
      bool done = error - now <= options.tolerance * error;
      error = now;
      if (done)
        break;
    }
    return centers;
  }

private:
  float weight(int64_t i) const { return weights ? weights[i] : 1.0f; }
  const float *point(int64_t i) const { return points.data() + i * width; }

  float squared(int64_t i, const float *center) const {
    float sum = 0;
    for (int64_t j = 0; j < width; ++j)
      sum += (point(i)[j] - center[j]) * (point(i)[j] - center[j]);
    return sum;
  }

  /// Different points.
  std::vector<float> startAnywhere(Random random) {
    std::vector<int64_t> order(count);
    std::iota(order.begin(), order.end(), int64_t(0));
    std::vector<float> centers;
    centers.reserve(options.clusters * width);
    for (int64_t c = 0; c < options.clusters; ++c) {
      int64_t other = c + static_cast<int64_t>(random.next() * (count - c));
      std::swap(order[c], order[other]);
      centers.insert(centers.end(), point(order[c]), point(order[c]) + width);
    }
    return centers;
  }

  /// k-means++: each center is a point, chosen by its distance to the others.
  std::vector<float> start(Random random) {
    if (options.clusters > kMostSpread)
      return startAnywhere(random);
    std::vector<float> centers;
    centers.reserve(options.clusters * width);
    std::fill(distance.begin(), distance.end(), 1.0f);
    for (int64_t c = 0; c < options.clusters; ++c) {
      double total = 0;
      for (int64_t i = 0; i < count; ++i)
        total += double(weight(i)) * distance[i];
      double left = random.next() * total;
      int64_t chosen = count - 1;
      for (int64_t i = 0; i < count; ++i) {
        left -= double(weight(i)) * distance[i];
        if (left < 0) {
          chosen = i;
          break;
        }
      }
      centers.insert(centers.end(), point(chosen), point(chosen) + width);
      for (int64_t i = 0; i < count; ++i) {
        float now = squared(i, point(chosen));
        if (c == 0 || now < distance[i])
          distance[i] = now;
      }
    }
    return centers;
  }

  /// Finds the center of each point; the weighted error.
  double assign(llvm::ArrayRef<float> centers) {
    NearestVector nearest(centers, width);
    forEachIndex(
        (count + kChunk - 1) / kChunk, options.threads, [&](int64_t chunk) {
          int64_t first = chunk * kChunk;
          int64_t end = std::min(first + kChunk, count);
          nearest.findAll(point(first), end - first, owner.data() + first);
          for (int64_t i = first; i < end; ++i)
            distance[i] = squared(i, centers.data() + owner[i] * width);
        });
    double error = 0;
    for (int64_t i = 0; i < count; ++i)
      error += double(weight(i)) * distance[i];
    return error;
  }

  std::vector<float> means(llvm::ArrayRef<float> old) {
    std::vector<double> sums(options.clusters * width), mass(options.clusters);
    for (int64_t i = 0; i < count; ++i) {
      mass[owner[i]] += weight(i);
      for (int64_t j = 0; j < width; ++j)
        sums[owner[i] * width + j] += double(weight(i)) * point(i)[j];
    }
    std::vector<float> centers(old.begin(), old.end());
    // The points by what they miss, if there are clusters that want one.
    std::vector<int64_t> worst;
    size_t next = 0;
    for (int64_t c = 0; c < options.clusters; ++c) {
      if (mass[c] > 0) {
        for (int64_t j = 0; j < width; ++j)
          centers[c * width + j] = sums[c * width + j] / mass[c];
        continue;
      }
      if (worst.empty()) {
        worst.resize(count);
        std::iota(worst.begin(), worst.end(), int64_t(0));
        std::stable_sort(worst.begin(), worst.end(), [&](int64_t a, int64_t b) {
          return weight(a) * distance[a] > weight(b) * distance[b];
        });
      }
      std::copy_n(point(worst[next]), width, centers.begin() + c * width);
      next = std::min<size_t>(next + 1, count - 1);
    }
    return centers;
  }

  llvm::ArrayRef<float> points;
  int64_t width, count;
  const float *weights;
  const KMeansOptions &options;
  std::vector<uint32_t> owner;
  std::vector<float> distance;
};

} // namespace

std::vector<float> quench::kMeans(llvm::ArrayRef<float> points, int64_t width,
                                  const float *weights,
                                  const KMeansOptions &options) {
  int64_t count = points.size() / width;
  std::vector<float> best(options.clusters * width);
  if (count <= options.clusters) {
    for (size_t i = 0; count && i < best.size(); ++i)
      best[i] = points[i % (count * width)];
    return best;
  }
  Clusters clusters(points, width, weights, options);
  double least = 0;
  for (int i = 0; i < std::max(1, options.restarts); ++i) {
    double error;
    std::vector<float> centers = clusters.run(options.seed + i, error);
    if (i == 0 || error < least) {
      least = error;
      best = std::move(centers);
    }
  }
  return best;
}

//===----------------------------------------------------------------------===//
// Sums of codewords
//===----------------------------------------------------------------------===//

AdditiveCodebook::AdditiveCodebook(int64_t tables, int64_t entries,
                                   int64_t width, std::vector<float> vectors)
    : tableCount(tables), entryCount(entries), width(width),
      stride((entries + kLanes - 1) / kLanes * kLanes),
      all(std::move(vectors)) {}

void AdditiveCodebook::prepare() const {
  for (int64_t table = 0; table < tableCount; ++table)
    nearest.emplace_back(llvm::ArrayRef<float>(all).slice(
                             table * entryCount * width, entryCount * width),
                         width);
  if (entryCount > kMostProducts)
    return;
  cross.resize(tableCount * tableCount * entryCount * stride);
  for (int64_t first = 0; first < tableCount; ++first)
    for (int64_t second = 0; second < tableCount; ++second)
      for (int64_t a = 0; a < entryCount && first != second; ++a) {
        float *out = products(first, a, second);
        for (int64_t b = 0; b < entryCount; ++b) {
          float product = 0;
          for (int64_t j = 0; j < width; ++j)
            product += vector(first, a)[j] * vector(second, b)[j];
          out[b] = product;
        }
      }
}

void AdditiveCodebook::sum(const uint32_t *codes, float *values) const {
  std::fill_n(values, width, 0.0f);
  for (int64_t table = 0; table < tableCount; ++table)
    for (int64_t j = 0; j < width; ++j)
      values[j] += vector(table, codes[table])[j];
}

namespace {
/// The first codes of a sum, and how far it is (less the point's norm).
struct Partial {
  float score;
  llvm::SmallVector<uint32_t, 4> codes;
};
/// One more code for a partial sum.
struct Extension {
  float score;
  uint32_t partial, code;
};

/// The best few extensions, in order; of equals the first one offered.
class Beam {
public:
  explicit Beam(size_t size) : size(size) {}
  /// Scores of the codes of a partial sum, less `base`: n of them, in a
  /// multiple of kLanes numbers.
  void offer(uint32_t partial, float base, const float *scores, int64_t n) {
    for (int64_t first = 0; first < n; first += kLanes) {
      float least = scores[first];
      for (int64_t lane = 1; lane < kLanes; ++lane)
        least = scores[first + lane] < least ? scores[first + lane] : least;
      if (best.size() == size && !(base + least < best.back().score))
        continue;
      for (int64_t e = first; e < std::min(first + kLanes, n); ++e)
        offer({base + scores[e], partial, uint32_t(e)});
    }
  }
  llvm::SmallVector<Extension, 32> best;

private:
  void offer(Extension extension) {
    if (best.size() == size && !(extension.score < best.back().score))
      return;
    if (best.size() == size)
      best.pop_back();
    auto place = best.end();
    while (place != best.begin() && extension.score < std::prev(place)->score)
      --place;
    best.insert(place, extension);
  }
  size_t size;
};
} // namespace

void AdditiveCodebook::scoresBeside(int64_t table, const float *point,
                                    const float *single,
                                    llvm::ArrayRef<int64_t> chosen,
                                    const uint32_t *codes,
                                    float *scores) const {
  if (!cross.empty() || chosen.empty()) {
    std::copy_n(single + table * stride, stride, scores);
    for (int64_t other : chosen) {
      const float *row = products(other, codes[other], table);
      for (int64_t e = 0; e < stride; ++e)
        scores[e] += row[e];
    }
    return;
  }
  llvm::SmallVector<float, 32> left(point, point + width);
  for (int64_t other : chosen)
    for (int64_t j = 0; j < width; ++j)
      left[j] -= vector(other, codes[other])[j];
  nearest[table].scores(left.data(), scores);
}

void AdditiveCodebook::find(const float *point, int64_t beam,
                            uint32_t *codes) const {
  std::call_once(prepared, [&] { prepare(); });
  if (tableCount == 1) {
    codes[0] = nearest[0].find(point);
    return;
  }
  llvm::SmallVector<float, 1024> single(tableCount * stride), line(stride);
  for (int64_t table = 0; table < tableCount; ++table)
    nearest[table].scores(point, single.data() + table * stride);

  std::vector<Partial> partials{{0, {}}}, next;
  llvm::SmallVector<int64_t, 4> chosen;
  for (int64_t table = 0; table < tableCount; ++table) {
    Beam found(table + 1 == tableCount ? 1 : std::max<int64_t>(1, beam));
    for (uint32_t p = 0; p < partials.size(); ++p) {
      scoresBeside(table, point, single.data(), chosen,
                   partials[p].codes.data(), line.data());
      found.offer(p, partials[p].score, line.data(), entryCount);
    }
    chosen.push_back(table);
    next.clear();
    for (const Extension &extension : found.best) {
      next.push_back({extension.score, partials[extension.partial].codes});
      next.back().codes.push_back(extension.code);
    }
    std::swap(partials, next);
  }
  std::copy_n(partials[0].codes.begin(), tableCount, codes);

  // Exchange single codes. Every exchange lowers the score, so it ends.
  for (int sweep = 0; sweep < 4; ++sweep) {
    bool changed = false;
    for (int64_t table = 0; table < tableCount; ++table) {
      chosen.clear();
      for (int64_t other = 0; other < tableCount; ++other)
        if (other != table)
          chosen.push_back(other);
      scoresBeside(table, point, single.data(), chosen, codes, line.data());
      uint32_t code = leastOf(line.data(), stride);
      if (line[code] < line[codes[table]]) {
        codes[table] = code;
        changed = true;
      }
    }
    if (!changed)
      break;
  }
}

void AdditiveCodebook::findAll(const float *points, int64_t count, int64_t beam,
                               uint32_t *codes) const {
  std::call_once(prepared, [&] { prepare(); });
  if (tableCount == 1)
    return nearest[0].findAll(points, count, codes);
  for (int64_t i = 0; i < count; ++i)
    find(points + i * width, beam, codes + i * tableCount);
}

void AdditiveCodebook::find(const float *point, const float *weights,
                            int64_t beam, uint32_t *codes) const {
  std::call_once(prepared, [&] { prepare(); });
  llvm::SmallVector<float, 256> line(stride);
  llvm::SmallVector<float, 32> left(width);
  std::vector<Partial> partials{{0, {}}}, next;
  for (int64_t table = 0; table < tableCount; ++table) {
    Beam found(table + 1 == tableCount ? 1 : std::max<int64_t>(1, beam));
    for (uint32_t p = 0; p < partials.size(); ++p) {
      std::copy_n(point, width, left.begin());
      for (int64_t before = 0; before < table; ++before)
        for (int64_t j = 0; j < width; ++j)
          left[j] -= vector(before, partials[p].codes[before])[j];
      nearest[table].scores(left.data(), weights, line.data());
      found.offer(p, partials[p].score, line.data(), entryCount);
    }
    next.clear();
    for (const Extension &extension : found.best) {
      next.push_back({extension.score, partials[extension.partial].codes});
      next.back().codes.push_back(extension.code);
    }
    std::swap(partials, next);
  }
  std::copy_n(partials[0].codes.begin(), tableCount, codes);
}

//===----------------------------------------------------------------------===//
// Codewords for given codes
//===----------------------------------------------------------------------===//

/// direction . other, in double precision.
static double product(llvm::ArrayRef<float> a, llvm::ArrayRef<float> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i)
    sum += double(a[i]) * b[i];
  return sum;
}

void CodebookFit::improve(std::vector<float> &vectors,
                          std::vector<float> &errors, int iterations) const {
  size_t unknowns = tables * entries * width;
  auto expand = [&](llvm::ArrayRef<float> table, std::vector<float> &out) {
    out.assign(words * width, 0.0f);
    for (int64_t word = 0; word < words; ++word)
      for (int64_t t = 0; t < tables; ++t) {
        const float *from =
            table.data() + (t * entries + codes[word * tables + t]) * width;
        float scale = scales ? scales[word] : 1.0f;
        for (int64_t j = 0; j < width; ++j)
          out[word * width + j] += scale * from[j];
      }
  };
  auto collect = [&](llvm::ArrayRef<float> from) {
    std::vector<double> sums(unknowns);
    for (int64_t word = 0; word < words; ++word)
      for (int64_t t = 0; t < tables; ++t) {
        double *to =
            sums.data() + (t * entries + codes[word * tables + t]) * width;
        double scale = scales ? scales[word] : 1.0f;
        for (int64_t j = 0; j < width; ++j)
          to[j] += scale * from[word * width + j];
      }
    return std::vector<float>(sums.begin(), sums.end());
  };

  // Codewords that are seldom used move as fast as the others.
  std::vector<float> often(tables * entries, 0.0f);
  for (int64_t word = 0; word < words; ++word)
    for (int64_t t = 0; t < tables; ++t)
      often[t * entries + codes[word * tables + t]] +=
          scales ? scales[word] * scales[word] : 1.0f;
  auto evened = [&](std::vector<float> values) {
    for (size_t i = 0; i < unknowns; ++i) {
      float by = often[i / width];
      values[i] = by > 0 ? values[i] / by : 0.0f;
    }
    return values;
  };

  std::vector<float> weighed = errors, moved, weighedMove;
  if (weigh)
    weigh(weighed);
  std::vector<float> gradient = collect(weighed), step = evened(gradient);
  std::vector<float> direction = step;
  double size = product(gradient, step);
  for (int i = 0; i < iterations && size > 0; ++i) {
    expand(direction, moved);
    weighedMove = moved;
    if (weigh)
      weigh(weighedMove);
    double curvature = product(moved, weighedMove);
    if (!(curvature > 0))
      return;
    float length = size / curvature;
    for (size_t n = 0; n < unknowns; ++n)
      vectors[n] += length * direction[n];
    for (size_t n = 0; n < moved.size(); ++n) {
      errors[n] -= length * moved[n];
      weighed[n] -= length * weighedMove[n];
    }
    gradient = collect(weighed);
    step = evened(gradient);
    double now = product(gradient, step);
    float keep = now / size;
    size = now;
    for (size_t n = 0; n < unknowns; ++n)
      direction[n] = step[n] + keep * direction[n];
  }
}
