//===- BenchKernels.cpp - Kernels timed beside the machine's limits -------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "BenchKernels.h"
#include "KernelProbes.h"
#include "quench/Kernels/Contract.h"
#include "quench/Kernels/Lowering.h"
#include "quench/Quantization/Half.h"
#include "quench/Quantization/Packing.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/JSON.h"
#include <cmath>
#include <cstring>
#include <ctime>
#include <random>
#include <sys/mman.h>

using namespace mlir;
using namespace quench;

namespace {

using Gemv = void(const void *w, int64_t wOffset, const void *x,
                  const float *scale, const void *sums, float *y, int64_t lo,
                  int64_t hi);
using Gemm = void(const void *w, int64_t wOffset, const void *x,
                  const float *scale, const void *sums, float *y,
                  int64_t yStride, void *scratch, int64_t m, int64_t lo,
                  int64_t hi);
using StageFn = void(const float *input, void *x, float *scale, void *sums,
                     int64_t m, int64_t lo, int64_t hi);

constexpr int64_t kColdBytes = 300 << 20;
constexpr int64_t kDistinctPasses = 8;

/// CPU time of this thread in seconds: other processes do not count.
double now() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0 : values[values.size() / 2];
}

/// Zeroed memory in ordinary pages, as mapped files have them.
class Memory {
public:
  explicit Memory(size_t size) : size((size + (2 << 20) - 1) >> 21 << 21) {
    base = mmap(nullptr, this->size, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) {
      base = nullptr;
      return;
    }
#ifdef MADV_NOHUGEPAGE
    madvise(base, this->size, MADV_NOHUGEPAGE);
#endif
  }
  ~Memory() {
    if (base)
      munmap(base, size);
  }
  Memory(const Memory &) = delete;
  Memory &operator=(const Memory &) = delete;
  uint8_t *data() const { return static_cast<uint8_t *>(base); }

private:
  size_t size;
  void *base;
};

/// A random weight. A few passes are encoded and then repeated: the time does
/// not depend on the content, and the check still sees a wrong pass.
struct BenchWeight {
  BenchWeight(const Format &format, int64_t n, int64_t k)
      : format(format), n(n), k(k), shape(format, n, k), stream(shape.bytes) {
    std::mt19937 random(5);
    std::normal_distribution<float> normal;
    int64_t distinct = std::min(kDistinctPasses, shape.passes);
    int64_t rows = distinct * kPassRows;
    values.resize(rows * k);
    for (float &v : values)
      v = 0.02f * normal(random);
    EncodedRows encoded =
        encodeNearest(format, values.data(), rows, k, FitOptions());
    decodeRows(format, encoded, values.data());
    if (format.codedField().bits != 0) {
      stream = packWeight(format, repeated(encoded));
      distinctRows = rows;
      return;
    }
    packHeader(format, encoded, stream.data());
    uint8_t *passes = stream.data() + shape.headerBytes;
    for (int64_t pass = 0; pass < distinct; ++pass)
      packPass(format, sliceRows(format, encoded, pass * kPassRows, kPassRows),
               passes + shape.passOffset(pass));
    // Passes that share their lines are copied together.
    int64_t bytes = distinct * shape.passBytes,
            end = distinct == shape.passes
                      ? bytes
                      : shape.bytes - kStreamPadding - shape.headerBytes;
    for (int64_t at = bytes; at < end; at += bytes)
      std::memcpy(passes + at, passes, std::min(bytes, end - at));
    if (format.isInteger()) {
      for (GroupParams &params : encoded.params) {
        scales.push_back(format.scaleOf(params));
        params.scale = format.roundScale(1.0f);
        if (format.hasFloatZero()) {
          zeros.push_back(halfToFloat(params.zero));
          params.zero = 0;
        }
      }
      unit = encoded.tensorScale * format.unit();
      encoded.tensorScale = 1;
      std::vector<float> units(values.size());
      decodeRows(format, encoded, units.data());
      for (float v : units)
        lanes.push_back(std::lround(v / format.unit()));
    }
    distinctRows = distinct * kPassRows;
  }

  /// The codes of all n rows.
  EncodedRows repeated(const EncodedRows &some) const {
    EncodedRows all = some;
    auto fill = [&](auto &values) {
      size_t period = values.size();
      values.resize(period / some.rows * n);
      for (size_t i = period; i < values.size(); ++i)
        values[i] = values[i - period];
    };
    fill(all.codes);
    fill(all.params);
    all.rows = n;
    return all;
  }

  const Format &format;
  int64_t n, k;
  StreamShape shape;
  std::vector<uint8_t> stream;
  std::vector<float> values, scales, zeros;
  float unit = 1; // the tensor scale included
  std::vector<int32_t> lanes;
  int64_t distinctRows;
};

/// One row of the result of an integer contraction, exactly.
void exactRow(const BenchWeight &w, const float *x, std::vector<float> &y) {
  int64_t k = w.k, group = w.format.group() ? w.format.group() : k;
  int64_t groups = (k + group - 1) / group;
  float most = 1e-30f;
  for (int64_t c = 0; c < k; ++c)
    most = std::max(most, std::fabs(x[c]));
  float scale = most / 127.0f, inverse = 127.0f / most;
  std::vector<int32_t> codes(k);
  for (int64_t c = 0; c < k; ++c)
    codes[c] = static_cast<int32_t>(std::nearbyint(x[c] * inverse));
  for (int64_t r = 0; r < std::min(w.n, w.distinctRows); ++r) {
    float sum = 0;
    for (int64_t g = 0; g < groups; ++g) {
      int64_t total = 0, ones = 0;
      for (int64_t c = g * group; c < std::min(k, (g + 1) * group); ++c) {
        total += int64_t(w.lanes[r * k + c]) * codes[c];
        ones -= codes[c];
      }
      float value = static_cast<float>(total);
      if (!w.zeros.empty())
        value =
            std::fma(w.zeros[r * groups + g], static_cast<float>(ones), value);
      sum = w.format.group() ? std::fma(value, w.scales[r * groups + g], sum)
                             : value;
    }
    sum *= scale * w.unit;
    y[r] = w.format.group() || !w.format.hasScale() ? sum : sum * w.scales[r];
  }
}

/// Largest difference to the reference, relative to the sum of magnitudes (0:
/// equal bit for bit); infinity if it is wrong.
double check(const BenchWeight &w, const float *x, const float *y,
             bool integer) {
  int64_t n = w.n, k = w.k;
  double worst = 0;
  std::vector<float> want(n);
  if (integer) {
    exactRow(w, x, want);
    for (int64_t r = 0; r < n; ++r)
      if (std::memcmp(&y[r], &want[r % w.distinctRows], 4))
        return INFINITY;
    return 0;
  }
  for (int64_t r = 0; r < n; ++r) {
    if (r >= w.distinctRows) { // repeated passes have equal results
      if (std::memcmp(&y[r], &y[r % w.distinctRows], 4))
        return INFINITY;
      continue;
    }
    double sum = 0, magnitude = 1e-30;
    const float *row = &w.values[r * k];
    for (int64_t c = 0; c < k; ++c) {
      sum += double(row[c]) * x[c];
      magnitude += std::fabs(double(row[c]) * x[c]);
    }
    double error = std::fabs(y[r] - sum) / magnitude;
    if (!(error < (w.format.hasZeroPoint() ? 2e-5 : 1e-6)))
      return INFINITY;
    worst = std::max(worst, error);
  }
  return worst;
}

/// One line of the table.
struct Result {
  std::string format, activations;
  int64_t n, k, m;
  bool cold;
  int64_t bytes;
  double seconds, error;
  double stageSeconds; // staging the activations, once for all layers
  double line, peak;   // bytes and operations in a second
};

/// All kernels of a shape, compiled together.
class ShapeBench {
public:
  ShapeBench(const BenchKernelsOptions &options, int64_t n, int64_t k,
             llvm::raw_ostream &err)
      : options(options), n(n), k(k), err(err) {}

  bool compile(ArrayRef<const Format *> formats) {
    auto target = resolveCPU(options.cpu);
    if (!target) {
      err << "error: " << llvm::toString(target.takeError()) << "\n";
      return false;
    }
    MLIRContext context;
    OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(&context));
    std::vector<std::string> names;
    auto keep = [&](func::FuncOp function) {
      function.setPublic();
      names.push_back(function.getName().str());
    };
    keep(makeReadProbe(*module));
    keep(makePeakProbe(*module));
    for (const Format *format : formats)
      for (bool integer : {true, false}) {
        if (integer ? !options.integer || !format->isInteger()
                    : !options.floats)
          continue;
        ContractSpec spec{format, n, k, integer, false, false};
        specs.push_back(spec);
        keep(getOrCreateGemv(*module, spec));
        keep(getOrCreateGemm(*module, spec));
        keep(getOrCreateStage(*module, StageSpec(spec, false)));
        keep(getOrCreateStage(*module, StageSpec(spec, true)));
        spec.prefetch = true;
        keep(getOrCreateGemv(*module, spec));
        keep(getOrCreateGemm(*module, spec));
      }
    auto loaded = compileAndLoad(*module, *target);
    if (!loaded) {
      err << "error: " << llvm::toString(loaded.takeError()) << "\n";
      return false;
    }
    library = std::move(*loaded);
    for (const std::string &name : names) {
      auto address = library->lookup(name);
      if (!address) {
        err << "error: " << llvm::toString(address.takeError()) << "\n";
        return false;
      }
      functions.push_back(*address);
    }
    return true;
  }

  void run(std::vector<Result> &results) {
    measurePeak();
    for (size_t i = 0; i < specs.size(); ++i) {
      BenchWeight weight(*specs[i].format, n, k);
      for (int64_t m : options.rows)
        for (bool cold : {false, true})
          if (cold ? options.cold : options.hot)
            results.push_back(measure(i, weight, m, cold));
    }
  }

private:
  template <typename Function> Function *function(size_t index) {
    return reinterpret_cast<Function *>(functions[index]);
  }

  void measurePeak() {
    peak = 0;
    float sink[64];
    for (int i = 0; i < 5; ++i) {
      double start = now();
      function<PeakProbe>(1)(reinterpret_cast<int32_t *>(sink), 200000);
      peak = std::max(peak, 200000.0 * kPeakProbeOps / (now() - start));
    }
  }

  /// Bytes in a second that this thread reads from where the weights lie.
  double readLine(const uint8_t *data, int64_t bytes, int64_t least) {
    int32_t sink[16];
    std::vector<double> rates;
    bytes = bytes / 1024 * 1024;
    int64_t times = std::max<int64_t>(1, least / bytes);
    for (int i = 0; i < 3; ++i) {
      double start = now();
      for (int64_t j = 0; j < times; ++j)
        function<ReadProbe>(0)(data, bytes, sink);
      rates.push_back(times * bytes / (now() - start));
    }
    return *std::max_element(rates.begin(), rates.end());
  }

  /// Median time of some runs after a first one.
  double timed(llvm::function_ref<void()> body) {
    body();
    double start = now();
    body();
    double once = std::max(1e-7, now() - start);
    int64_t repeat = std::clamp<int64_t>(2e-3 / once, 1, 500);
    std::vector<double> times;
    for (int i = 0; i < options.repetitions; ++i) {
      start = now();
      for (int64_t j = 0; j < repeat; ++j)
        body();
      times.push_back((now() - start) / repeat);
    }
    return median(times);
  }

  Result measure(size_t index, const BenchWeight &weight, int64_t m,
                 bool cold) {
    const ContractSpec &spec = specs[index];
    bool tiled = m > 1;
    StageSpec stage(spec, tiled);
    int64_t bytes = weight.stream.size();
    int64_t stride = llvm::alignTo(bytes, 4096);
    int64_t copies = cold ? (kColdBytes + bytes - 1) / bytes : 1;
    if (cold && m > 1)
      copies = std::max<int64_t>(3, std::min(copies, 400 / m));
    Memory w(std::max(copies * stride, cold ? kColdBytes : stride) + 65536);
    for (int64_t i = 0; i < copies; ++i)
      std::memcpy(w.data() + i * stride, weight.stream.data(), bytes);

    std::mt19937 random(9);
    std::normal_distribution<float> normal;
    std::vector<float> input(m * k), y(m * n, NAN);
    for (float &v : input)
      v = normal(random);
    Memory x(4 * stage.xElements(m) + 64), sums(4 * stage.sumElements(m) + 64);
    Memory scratch(gemmScratchBytes(spec) + 64);
    std::vector<float> scale(stage.scaleElements(m) + 1);
    size_t first = 2 + 6 * index;
    auto prepare = [&] {
      function<StageFn>(first + 2 + tiled)(
          input.data(), x.data(), scale.data(), sums.data(), m, 0,
          stage.paddedRows(m) / stage.tileRows());
    };
    // Weights that lie in L2 are better not fetched ahead.
    bool prefetch = cold || bytes > (1 << 20);
    int64_t passes = contractPasses(spec);
    auto contract = [&](const uint8_t *at) {
      size_t f = first + (prefetch ? 4 : 0) + tiled;
      if (tiled)
        function<Gemm>(f)(at, 0, x.data(), scale.data(), sums.data(), y.data(),
                          n, scratch.data(), m, 0, passes);
      else
        function<Gemv>(f)(at, 0, x.data(), scale.data(), sums.data(), y.data(),
                          0, passes);
    };

    Result result{};
    result.format = spec.format->spec();
    result.activations = spec.integer ? "int8" : "f32";
    result.n = n;
    result.k = k;
    result.m = m;
    result.cold = cold;
    result.bytes = bytes;
    result.peak = peak;
    result.stageSeconds = timed(prepare);
    contract(w.data());
    for (int64_t i : {int64_t(0), m / 2, m - 1})
      result.error = std::max(
          result.error, check(weight, &input[i * k], &y[i * n], spec.integer));

    if (cold) {
      std::vector<double> times;
      for (int64_t i = 0; i < copies * options.repetitions; ++i) {
        double start = now();
        contract(w.data() + i % copies * stride);
        times.push_back(now() - start);
      }
      result.seconds = median(times);
      result.line = readLine(w.data(), kColdBytes, kColdBytes);
    } else {
      result.seconds = timed([&] { contract(w.data()); });
      result.line = readLine(w.data(), bytes, 32 << 20);
    }
    return result;
  }

  const BenchKernelsOptions &options;
  int64_t n, k;
  llvm::raw_ostream &err;
  std::vector<ContractSpec> specs;
  std::unique_ptr<LoadedLibrary> library;
  std::vector<void *> functions;
  double peak = 0;
};

const char *verdict(const Result &r) {
  if (std::isinf(r.error))
    return "WRONG";
  return r.error == 0 ? "exact" : "ok";
}

void printTable(ArrayRef<Result> results, llvm::raw_ostream &out) {
  out << "kernel                            act       N x K      M  from   "
         "median us     Gw/s     GB/s  %line    GOP/s  %peak  stage us\n";
  for (const Result &r : results) {
    double weights = double(r.n) * r.k, ops = 2 * weights * r.m;
    out << llvm::left_justify(r.format, 33) << " "
        << llvm::left_justify(r.activations, 5)
        << llvm::format("%6d x %-6d %4d  %-4s", int(r.n), int(r.k), int(r.m),
                        r.cold ? "cold" : "hot")
        << llvm::format(
               " %11.2f %8.1f %8.1f %6.0f %8.0f %6.0f %9.2f  ", r.seconds * 1e6,
               weights * r.m / r.seconds * 1e-9, r.bytes / r.seconds * 1e-9,
               100 * r.bytes / r.seconds / r.line, ops / r.seconds * 1e-9,
               100 * ops / r.seconds / r.peak, r.stageSeconds * 1e6)
        << verdict(r) << "\n";
  }
}

void printJSON(ArrayRef<Result> results, llvm::raw_ostream &out) {
  llvm::json::Array lines;
  for (const Result &r : results) {
    double weights = double(r.n) * r.k;
    lines.push_back(
        llvm::json::Object{{"format", r.format},
                           {"activations", r.activations},
                           {"n", r.n},
                           {"k", r.k},
                           {"m", r.m},
                           {"cold", r.cold},
                           {"bytes", r.bytes},
                           {"us", r.seconds * 1e6},
                           {"stage_us", r.stageSeconds * 1e6},
                           {"gw_per_s", weights * r.m / r.seconds * 1e-9},
                           {"gb_per_s", r.bytes / r.seconds * 1e-9},
                           {"line_gb_per_s", r.line * 1e-9},
                           {"gop_per_s", 2 * weights * r.m / r.seconds * 1e-9},
                           {"peak_gop_per_s", r.peak * 1e-9},
                           {"check", verdict(r)}});
  }
  out << llvm::formatv("{0:2}\n", llvm::json::Value(std::move(lines)));
}

} // namespace

int quench::benchKernels(const BenchKernelsOptions &options,
                         llvm::raw_ostream &out, llvm::raw_ostream &err) {
  std::vector<std::string> specs = options.formats;
  if (specs.empty())
    specs = {"int<8>",
             "int<4, group = 32>",
             "int<4, group = 32, zero>",
             "nf4<group = 64, bytes>",
             "nf4<group = 64>",
             "mxfp<4>",
             "nvfp4",
             "fp8<e4m3>",
             "ternary<2>",
             "ternary<5>",
             "e8p",
             "float<32>"};
  std::vector<const Format *> formats;
  for (const std::string &spec : specs) {
    auto format = getFormat(spec);
    if (!format) {
      err << "error: " << llvm::toString(format.takeError()) << "\n";
      return 1;
    }
    formats.push_back(*format);
  }
  std::vector<Result> results;
  for (auto [n, k] : options.shapes) {
    ShapeBench bench(options, n, k, err);
    if (!bench.compile(formats))
      return 1;
    bench.run(results);
  }
  if (options.json)
    printJSON(results, out);
  else
    printTable(results, out);
  return llvm::any_of(results,
                      [](const Result &r) { return std::isinf(r.error); });
}
