//===- CompiledModelTest.cpp - A program through the C interface ----------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Runtime/CompiledModel.h"
#include "TestProgram.h"
#include "quench/Runtime/Program.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/Support/MemoryBuffer.h"
#include <dlfcn.h>
#include <thread>

using namespace llvm;
using namespace quench;
using namespace quench::test;

namespace {

std::string text(Error error) { return toString(std::move(error)); }

template <typename T> std::string text(Expected<T> value) {
  return value ? "no error" : toString(value.takeError());
}

#define EXPECT_ERROR(expression, part)                                         \
  do {                                                                         \
    std::string message = text(expression);                                    \
    EXPECT_NE(message.find(part), std::string::npos) << message;               \
  } while (false)
#define EXPECT_GOOD(expression) EXPECT_EQ(text(expression), "")

class CompiledModelTest : public ::testing::Test {
protected:
  static void SetUpTestSuite() {
    folder = new TemporaryFolder();
    Expected<CPUTarget> native = resolveCPU("native");
    ASSERT_TRUE(static_cast<bool>(native));
    target = new CPUTarget(*native);
    path = new std::string(folder->file("model.so"));
    ASSERT_EQ(text(buildProgram(*path, *target)), "");
  }
  static void TearDownTestSuite() {
    delete path;
    delete target;
    delete folder;
  }

  std::shared_ptr<CompiledModel> open() {
    auto model = CompiledModel::open(*path);
    if (!model) {
      ADD_FAILURE() << toString(model.takeError());
      return nullptr;
    }
    return *model;
  }
  static std::unique_ptr<ModelContext>
  context(std::shared_ptr<CompiledModel> model, int threads = 1,
          int64_t capacity = 0) {
    auto result =
        CompiledModel::createContext(std::move(model), threads, capacity);
    if (!result) {
      ADD_FAILURE() << toString(result.takeError());
      return nullptr;
    }
    return std::move(*result);
  }

  /// The content of the model with one change, in a file of its own.
  std::string altered(const std::function<void(std::string &)> &change) {
    auto buffer = MemoryBuffer::getFile(*path);
    std::string bytes = (*buffer)->getBuffer().str();
    change(bytes);
    std::string name = folder->file("altered.so");
    sys::fs::remove(name);
    std::error_code error;
    raw_fd_ostream(name, error) << bytes;
    return name;
  }

  static TemporaryFolder *folder;
  static CPUTarget *target;
  static std::string *path;
};
TemporaryFolder *CompiledModelTest::folder;
CPUTarget *CompiledModelTest::target;
std::string *CompiledModelTest::path;

/// Runs main and compares with the sums of the file comment of TestProgram.h.
void checkRun(ModelContext &context, int64_t batch, int64_t width, float seed) {
  std::vector<float> a(batch * width), b(a.size()), sum(a.size()),
      rows(2 * batch + 1);
  for (size_t i = 0; i < a.size(); ++i) {
    a[i] = seed + static_cast<float>(i % 13);
    b[i] = static_cast<float>(i % 7) * 0.25f;
  }
  int64_t index = 0;
  EXPECT_GOOD(context.setInput(0, QUENCH_FLOAT32, {batch, width}, a.data()));
  EXPECT_GOOD(context.setInput(1, QUENCH_FLOAT32, {batch, width}, b.data()));
  EXPECT_GOOD(context.setInput(2, QUENCH_INT64, {1}, &index));
  auto shape = context.outputShape(1);
  ASSERT_TRUE(static_cast<bool>(shape));
  EXPECT_EQ(*shape, (SmallVector<int64_t>{2 * batch + 1}));
  EXPECT_GOOD(context.setOutput(0, sum.data(), sum.size() * 4));
  EXPECT_GOOD(context.run());
  EXPECT_GOOD(context.getOutput(1, rows.data(), rows.size() * 4));
  for (int64_t r = 0; r < batch; ++r) {
    float total = 0;
    for (int64_t k = 0; k < width; ++k) {
      float expected = a[r * width + k] + b[r * width + k] + 0.5f;
      EXPECT_EQ(sum[r * width + k], expected);
      total += expected;
    }
    EXPECT_EQ(rows[2 * r], total);
    EXPECT_EQ(rows[2 * r + 1], total);
  }
  EXPECT_EQ(rows.back(), 7.0f);
}

/// Logits of position p for tokens so far.
float logit(ArrayRef<int64_t> tokens, int64_t position, int64_t v) {
  int64_t sum = 0;
  for (int64_t i = 0; i <= position; ++i)
    sum += tokens[i];
  return static_cast<float>(sum * (v + 1));
}

TEST_F(CompiledModelTest, Describes) {
  auto model = open();
  ASSERT_TRUE(model);
  ASSERT_EQ(model->inputs().size(), 3u);
  EXPECT_EQ(model->inputs()[0].name, "a");
  EXPECT_EQ(model->inputs()[0].type, QUENCH_FLOAT32);
  EXPECT_EQ(model->inputs()[0].dims, (SmallVector<int64_t>{-1, -1}));
  EXPECT_EQ(model->inputs()[0].dimNames,
            (std::vector<std::string>{"batch", "width"}));
  EXPECT_EQ(model->inputs()[2].dims, (SmallVector<int64_t>{1}));
  ASSERT_EQ(model->outputs().size(), 2u);
  EXPECT_EQ(model->outputs()[1].dimNames,
            (std::vector<std::string>{"2*batch + 1"}));
  EXPECT_EQ(model->metadataJSON(), "{\"name\":\"test\"}");
  EXPECT_TRUE(model->hasState());
  EXPECT_EQ(model->vocabulary(), vocabulary);
  EXPECT_EQ(model->maxPositions(), maxPositions);
}

TEST_F(CompiledModelTest, RunsWithAnyThreads) {
  auto model = open();
  for (int threads = 1; threads <= 4; ++threads) {
    auto c = context(model, threads);
    ASSERT_TRUE(c);
    for (int64_t batch : {1, 3, 17, 2})
      checkRun(*c, batch, 5 * batch + 1, static_cast<float>(threads));
    for (int repeat = 0; repeat < 300; ++repeat)
      checkRun(*c, 2, 3, static_cast<float>(repeat));
  }
}

TEST_F(CompiledModelTest, StepsInChunks) {
  auto model = open();
  std::vector<int64_t> tokens = {1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 3, 1, 4};
  for (int threads = 1; threads <= 4; ++threads) {
    auto c = context(model, threads, 32);
    std::vector<float> logits(vocabulary), all(11 * vocabulary);
    EXPECT_GOOD(c->stepAll(ArrayRef(tokens).take_front(11), all));
    for (int64_t i = 0; i < 11 * vocabulary; ++i)
      EXPECT_EQ(all[i], logit(tokens, i / vocabulary, i % vocabulary));
    EXPECT_EQ(c->length(), 11);
    EXPECT_GOOD(c->step(tokens[11], logits));
    EXPECT_EQ(logits[3], logit(tokens, 11, 3));
    EXPECT_GOOD(c->step(tokens[12], {}));
    EXPECT_GOOD(c->truncate(6));
    EXPECT_GOOD(c->step(ArrayRef(tokens).slice(6, 7), logits));
    EXPECT_EQ(logits[9], logit(tokens, 12, 9));
    EXPECT_EQ(c->length(), 13);
    EXPECT_GOOD(c->reset());
    EXPECT_GOOD(c->step(int64_t(5), logits));
    EXPECT_EQ(logits[0], 5.0f);
  }
}

TEST_F(CompiledModelTest, ContextsAreIndependent) {
  auto model = open();
  auto first = context(model, 2), second = context(model, 1, 8);
  EXPECT_EQ(first->capacity(), maxPositions);
  EXPECT_EQ(second->capacity(), 8);
  std::vector<float> logits(vocabulary);
  EXPECT_GOOD(first->step({1, 2}, logits));
  EXPECT_GOOD(second->step({5, 4}, logits));
  EXPECT_EQ(logits[0], 9.0f);
  EXPECT_GOOD(first->step({3}, logits));
  EXPECT_EQ(logits[0], 6.0f);
  checkRun(*first, 2, 2, 1);
  EXPECT_EQ(first->length(), 3);

  // The model outlives its handle as long as a context is there; threads use
  // one each.
  model.reset();
  std::vector<std::thread> threads;
  ModelContext *contexts[] = {first.get(), second.get()};
  for (ModelContext *c : contexts)
    threads.emplace_back([c] {
      for (int i = 0; i < 200; ++i)
        checkRun(*c, 3, 4, static_cast<float>(i));
    });
  for (std::thread &thread : threads)
    thread.join();
}

TEST_F(CompiledModelTest, SavesAndLoadsState) {
  auto model = open();
  auto first = context(model), second = context(model, 2, 9);
  std::vector<float> logits(vocabulary);
  std::vector<int64_t> tokens = {4, 3, 2, 1, 8, 9};
  EXPECT_GOOD(first->step(tokens, logits));
  auto state = first->save();
  ASSERT_TRUE(static_cast<bool>(state));
  EXPECT_EQ(state->size(), 56u + 6 * 8); // header, six rows of one slab
  EXPECT_GOOD(second->load(*state));
  EXPECT_EQ(second->length(), 6);
  EXPECT_GOOD(second->step({1}, logits));
  EXPECT_EQ(logits[1], 2 * 28.0f);

  EXPECT_ERROR(second->load(ArrayRef(*state).drop_back()),
               "truncated or altered");
  EXPECT_ERROR(second->load(ArrayRef(*state).take_front(5)),
               "not a saved state");
  std::vector<uint8_t> changed = *state;
  changed.back() ^= 1;
  EXPECT_ERROR(second->load(changed), "truncated or altered");
  changed = *state;
  changed[16] ^= 1;
  EXPECT_ERROR(second->load(changed), "another model");
  EXPECT_EQ(second->length(), 7);
  auto small = context(model, 1, 5);
  EXPECT_ERROR(small->load(*state), "capacity of 5");
}

TEST_F(CompiledModelTest, NamesWrongInputs) {
  auto c = context(open());
  std::vector<float> data(64);
  int64_t index = 0;
  EXPECT_ERROR(c->run(), "input 'a' (number 0) is not set");
  EXPECT_ERROR(c->setInput(0, QUENCH_FLOAT32, {2}, data.data()),
               "input 'a': rank 1 found, 2 accepted: [batch, width]");
  EXPECT_ERROR(c->setInput(0, QUENCH_INT32, {2, 2}, data.data()),
               "type int32 found, float32 accepted");
  EXPECT_ERROR(c->setInput(0, 99, {2, 2}, data.data()), "an unknown type");
  EXPECT_ERROR(c->setInput(0, QUENCH_FLOAT32, {2, -2}, data.data()), "[2, -2]");
  EXPECT_ERROR(c->setInput(0, QUENCH_FLOAT32,
                           {int64_t(1) << 40, int64_t(1) << 40}, data.data()),
               "too large");
  EXPECT_ERROR(c->setInput(0, QUENCH_FLOAT32, {2, 2}, nullptr), "null");
  EXPECT_ERROR(c->setInput(3, QUENCH_FLOAT32, {2, 2}, data.data()),
               "input 3 does not exist");
  EXPECT_ERROR(c->setInput(-1, QUENCH_FLOAT32, {2, 2}, data.data()),
               "input -1 does not exist");
  EXPECT_ERROR(c->setInput(2, QUENCH_INT64, {2}, data.data()),
               "dimension 0 must be 1");

  EXPECT_GOOD(c->setInput(0, QUENCH_FLOAT32, {2, 3}, data.data()));
  EXPECT_GOOD(c->setInput(1, QUENCH_FLOAT32, {4, 3}, data.data()));
  EXPECT_GOOD(c->setInput(2, QUENCH_INT64, {1}, &index));
  EXPECT_ERROR(
      c->run(),
      "input 'b': shape [4, 3] found, [batch, width] accepted; dimension 0 "
      "(batch) must be 2");
  EXPECT_ERROR(c->outputShape(0), "must be 2");
  EXPECT_ERROR(c->outputShape(2), "output 2 does not exist");
  EXPECT_GOOD(c->setInput(1, QUENCH_FLOAT32, {2, 3}, data.data()));
  EXPECT_ERROR(c->getOutput(0, data.data(), 24), "quench_run was not called");
  EXPECT_GOOD(c->setOutput(0, data.data(), 20));
  EXPECT_ERROR(c->run(), "output 'sum': memory of 20 bytes found, 24 needed "
                         "for [2, 3] of float32");
  EXPECT_GOOD(c->setOutput(0, nullptr, 0));
  EXPECT_GOOD(c->run());
  EXPECT_ERROR(c->getOutput(1, data.data(), 16), "20 needed");
  index = 2;
  EXPECT_ERROR(c->run(), "'main': an index is outside of its dimension");
  EXPECT_ERROR(c->getOutput(0, data.data(), 24), "quench_run was not called");
  index = 1;
  EXPECT_GOOD(c->run());
  checkRun(*c, 3, 0, 1); // empty is a size as others
}

TEST_F(CompiledModelTest, NamesWrongSteps) {
  auto model = open();
  auto c = context(model, 1, 6);
  std::vector<float> logits(vocabulary), small(3);
  EXPECT_ERROR(c->step({}, logits), "0 tokens found");
  EXPECT_ERROR(c->step({1, 10}, logits),
               "token 1 has the id 10; 0 to 9 are accepted");
  EXPECT_ERROR(c->step({-1}, logits), "token 0 has the id -1");
  EXPECT_ERROR(c->step({1, 2, 3, 4, 5, 6, 7}, logits),
               "7 tokens found; the state holds 0 of 6 positions");
  EXPECT_ERROR(c->step({1}, small), "room for 3 logits found");
  EXPECT_ERROR(c->stepAll({1, 2}, logits), "20 needed");
  EXPECT_EQ(c->length(), 0);
  EXPECT_GOOD(c->step({1, 2, 3, 4, 5, 6}, logits));
  EXPECT_ERROR(c->step({1}, logits), "room for 0");
  EXPECT_ERROR(c->truncate(7), "cannot be truncated to 7");
  EXPECT_ERROR(c->truncate(-1), "cannot be truncated to -1");
  EXPECT_ERROR(c->loadAdapter("x.bin"), "without adapter slots");

  EXPECT_ERROR(CompiledModel::createContext(model, -1), "-1 threads");
  EXPECT_ERROR(CompiledModel::createContext(model, 100000), "100000 threads");
  EXPECT_ERROR(CompiledModel::createContext(model, 1, 65),
               "65 positions is asked for");
  EXPECT_ERROR(CompiledModel::createContext(model, 1, -3), "negative");
}

TEST_F(CompiledModelTest, RefusesDamagedFiles) {
  EXPECT_ERROR(CompiledModel::open(folder->file("none.so")), "none.so");
  EXPECT_ERROR(CompiledModel::open(folder->path), "");
  uint64_t size = 0;
  ASSERT_FALSE(sys::fs::file_size(*path, size));
  for (uint64_t keep :
       {uint64_t(0), uint64_t(3), uint64_t(63), uint64_t(64), uint64_t(4096),
        size / 2, size - 33, size - 32, size - 1}) {
    auto model = CompiledModel::open(
        altered([&](std::string &bytes) { bytes.resize(keep); }));
    ASSERT_FALSE(static_cast<bool>(model)) << keep;
    std::string message = toString(model.takeError());
    EXPECT_TRUE(StringRef(message).contains("altered.so")) << message;
  }
  for (uint64_t at = 1; at < size; at += size / 97)
    for (int bit : {0, 7})
      EXPECT_FALSE(text(CompiledModel::open(altered([&](std::string &bytes) {
                     bytes[at] ^= static_cast<char>(1 << bit);
                   }))) == "no error")
          << at;
  EXPECT_ERROR(
      CompiledModel::open(altered([&](std::string &bytes) { bytes += "x"; })),
      "truncated or altered");
  EXPECT_ERROR(
      CompiledModel::open(altered([&](std::string &bytes) { bytes[18] = 40; })),
      "another kind of processor");
}

TEST_F(CompiledModelTest, OpensReplacedFile) {
  // A new file under an old path must not be taken for the old one, which is
  // still open.
  std::string name = folder->file("replaced.so");
  ASSERT_EQ(text(buildProgram(name, *target)), "");
  auto old = CompiledModel::open(name);
  ASSERT_TRUE(static_cast<bool>(old));
  ASSERT_EQ(text(buildProgram(
                name, *target, 1 << 20,
                [](ProgramDescription &p) { p.metadataJSON = "{\"new\":1}"; })),
            "");
  auto model = CompiledModel::open(name);
  ASSERT_TRUE(static_cast<bool>(model));
  EXPECT_EQ((*old)->metadataJSON(), "{\"name\":\"test\"}");
  EXPECT_EQ((*model)->metadataJSON(), "{\"new\":1}");
}

TEST_F(CompiledModelTest, ReadsWeightsBeside) {
  std::string name = folder->file("beside.so");
  ASSERT_EQ(text(buildProgram(name, *target, /*limit=*/0)), "");
  {
    auto model = CompiledModel::open(name);
    ASSERT_EQ(model ? "" : toString(model.takeError()), "");
    checkRun(*context(*model, 2), 4, 5, 1);
  }
  std::string weights = name + ".weights";
  std::string bytes = (*MemoryBuffer::getFile(weights))->getBuffer().str();
  auto write = [&](StringRef content) {
    std::error_code error;
    raw_fd_ostream(weights, error) << content;
  };
  write(StringRef(bytes).drop_back());
  EXPECT_ERROR(CompiledModel::open(name), "beside.so.weights' is truncated");
  bytes[4096 + 100] ^= 4;
  write(bytes);
  EXPECT_ERROR(CompiledModel::open(name), "beside.so.weights' is altered");
  sys::fs::remove(weights);
  EXPECT_ERROR(CompiledModel::open(name), "must stay beside");
}

TEST_F(CompiledModelTest, RefusesOtherProcessorsAndRuntimes) {
  std::string name = folder->file("other.so");
  ASSERT_EQ(text(buildProgram(name, *target, 1 << 20,
                              [](ProgramDescription &p) {
                                p.cpuFeatures = "sse3,warpdrive";
                              })),
            "");
  EXPECT_ERROR(CompiledModel::open(name), "'warpdrive'");
}

TEST_F(CompiledModelTest, ModelsWithoutStateOrMain) {
  std::string name = folder->file("stateless.so");
  ASSERT_EQ(text(buildProgram(name, *target, 1 << 20,
                              [](ProgramDescription &p) {
                                p.decode = p.prefill = std::nullopt;
                                p.stateBytes = "";
                              })),
            "");
  auto model = CompiledModel::open(name);
  ASSERT_TRUE(static_cast<bool>(model));
  EXPECT_FALSE((*model)->hasState());
  auto c = context(*model, 2);
  checkRun(*c, 3, 3, 1);
  std::vector<float> logits(vocabulary);
  EXPECT_ERROR(c->step({1}, logits), "has no state");
  EXPECT_ERROR(c->save(), "has no state");

  name = folder->file("steps.so");
  ASSERT_EQ(text(buildProgram(name, *target, 1 << 20,
                              [](ProgramDescription &p) {
                                p.main = ProgramFunction();
                                p.symbols.clear();
                                p.prefill = std::nullopt;
                              })),
            "");
  auto steps = CompiledModel::open(name);
  ASSERT_TRUE(static_cast<bool>(steps));
  auto s = context(*steps);
  EXPECT_ERROR(s->run(), "no main function");
  EXPECT_GOOD(s->step({1, 2, 3}, logits));
  EXPECT_EQ(logits[0], 6.0f);
}

/// The C interface by itself, as another program would use it.
TEST_F(CompiledModelTest, PlainC) {
  void *handle = dlopen(path->c_str(), RTLD_NOW | RTLD_LOCAL);
  ASSERT_TRUE(handle) << dlerror();
  auto openModel = reinterpret_cast<decltype(&quench_model_open)>(
      dlsym(handle, "quench_model_open"));
  auto lastError = reinterpret_cast<decltype(&quench_last_error)>(
      dlsym(handle, "quench_last_error"));
  auto close = reinterpret_cast<decltype(&quench_model_close)>(
      dlsym(handle, "quench_model_close"));
  auto run =
      reinterpret_cast<decltype(&quench_run)>(dlsym(handle, "quench_run"));
  quench_model *model = nullptr;
  EXPECT_EQ(openModel(&model), QUENCH_OK) << lastError();
  EXPECT_EQ(openModel(nullptr), QUENCH_ERROR_ARGUMENT);
  EXPECT_EQ(run(nullptr), QUENCH_ERROR_ARGUMENT);
  EXPECT_STREQ(lastError(), "the context is null");
  std::thread([&] { EXPECT_STREQ(lastError(), ""); }).join();
  close(model);
  close(nullptr);
  dlclose(handle);

  // Weights altered on disk are found by the model itself, too.
  std::string name = altered([](std::string &bytes) {
    size_t at =
        bytes.find(std::string("\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a", 10));
    ASSERT_NE(at, std::string::npos);
    bytes[at + 500] ^= 16;
  });
  handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  ASSERT_TRUE(handle) << dlerror();
  openModel = reinterpret_cast<decltype(&quench_model_open)>(
      dlsym(handle, "quench_model_open"));
  lastError = reinterpret_cast<decltype(&quench_last_error)>(
      dlsym(handle, "quench_last_error"));
  EXPECT_EQ(openModel(&model), QUENCH_ERROR_FILE);
  EXPECT_TRUE(StringRef(lastError()).contains("is altered")) << lastError();
  // Gone from the disk: the mapped weights are checked.
  sys::fs::remove(name);
  EXPECT_EQ(openModel(&model), QUENCH_ERROR_FILE);
  EXPECT_TRUE(
      StringRef(lastError()).contains("weights of this model are altered"))
      << lastError();
  dlclose(handle);
}

TEST_F(CompiledModelTest, RefusesAnotherRuntime) {
  std::string name = altered([](std::string &bytes) {
    uint32_t begin[] = {QUENCH_RT_ABI_VERSION, sizeof(quench_rt_program)};
    size_t at =
        bytes.find(std::string(reinterpret_cast<char *>(begin), sizeof(begin)));
    ASSERT_NE(at, std::string::npos);
    bytes[at] = 77;
  });
  void *handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  ASSERT_TRUE(handle) << dlerror();
  auto openModel = reinterpret_cast<decltype(&quench_model_open_with)>(
      dlsym(handle, "quench_model_open_with"));
  auto lastError = reinterpret_cast<decltype(&quench_last_error)>(
      dlsym(handle, "quench_last_error"));
  quench_model *model = nullptr;
  EXPECT_EQ(openModel(nullptr, QUENCH_OPEN_UNCHECKED_FILE, &model),
            QUENCH_ERROR_FILE);
  EXPECT_TRUE(StringRef(lastError()).contains("written for runtime 77"))
      << lastError();
  EXPECT_EQ(model, nullptr);
  dlclose(handle);
}

} // namespace
