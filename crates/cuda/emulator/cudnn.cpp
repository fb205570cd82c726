// The convolutions of cuDNN's graph API that the backend asks for, as plain loops over the strides that are told. Every
// attribute is held against a table of its type and number; what the backend does not use is refused.

#include <cstddef>
#include <cstdio>
#include <cstring>
#include <map>
#include <vector>

#include "bf16.h"
#include "stream.h"

typedef int Status;
typedef long long i64;

namespace {

const Status OK = 0, BAD_PARAM = 2000, NOT_SUPPORTED = 3000;

// Kinds of descriptors.
const int POINTWISE = 0, CONVOLUTION = 1, ENGINE = 2, CONFIG = 3, HEURISTIC = 4, PLAN = 5, FORWARD = 10, FILTER = 11,
          DATA = 12, POINTWISE_STEP = 13, GRAPH = 15, PACK = 16, TENSOR = 17;

// Types of attributes.
const int HANDLE = 0, DATA_TYPE = 1, BOOLEAN = 2, INT64 = 3, FLOAT = 4, POINTER = 6, CONV_MODE = 7, HEUR_MODE = 8, NOTE = 11,
          POINTWISE_MODE = 14, DESCRIPTOR = 15;

const int F32 = 0, BF16 = 9, CROSS_CORRELATION = 1, FALLBACK = 2, MODE_A = 3;
const int ADD = 0, RELU = 100;
const int TENSOR_CORE = 0, NONDETERMINISTIC = 4, STRICT_NAN = 9;
const i64 WORKSPACE = 192;

struct Attribute {
    int kind, name, type, count;
    bool required;
    // Of the descriptor that it refers to.
    int refers;
    // The largest count, where it may be more.
    int most = 0;
};

const Attribute table[] = {
    {TENSOR, 900, INT64, 1, true, 0},
    {TENSOR, 901, DATA_TYPE, 1, true, 0},
    {TENSOR, 902, INT64, 4, true, 0},
    {TENSOR, 903, INT64, 4, true, 0},
    {TENSOR, 906, INT64, 1, true, 0},
    {TENSOR, 907, BOOLEAN, 1, false, 0},
    {POINTWISE, 0, POINTWISE_MODE, 1, true, 0},
    {POINTWISE, 1, DATA_TYPE, 1, true, 0},
    {POINTWISE_STEP, 750, DESCRIPTOR, 1, true, POINTWISE},
    {POINTWISE_STEP, 751, DESCRIPTOR, 1, true, TENSOR},
    {POINTWISE_STEP, 752, DESCRIPTOR, 1, false, TENSOR},
    {POINTWISE_STEP, 753, DESCRIPTOR, 1, true, TENSOR},
    {CONVOLUTION, 100, DATA_TYPE, 1, true, 0},
    {CONVOLUTION, 101, CONV_MODE, 1, true, 0},
    {CONVOLUTION, 102, INT64, 2, true, 0},
    {CONVOLUTION, 103, INT64, 2, true, 0},
    {CONVOLUTION, 104, INT64, 2, true, 0},
    {CONVOLUTION, 105, INT64, 2, true, 0},
    {CONVOLUTION, 106, INT64, 1, true, 0},
    {FORWARD, 700, FLOAT, 1, true, 0},
    {FORWARD, 701, FLOAT, 1, true, 0},
    {FORWARD, 702, DESCRIPTOR, 1, true, CONVOLUTION},
    {FORWARD, 703, DESCRIPTOR, 1, true, TENSOR},
    {FORWARD, 704, DESCRIPTOR, 1, true, TENSOR},
    {FORWARD, 705, DESCRIPTOR, 1, true, TENSOR},
    {DATA, 706, FLOAT, 1, true, 0},
    {DATA, 707, FLOAT, 1, true, 0},
    {DATA, 708, DESCRIPTOR, 1, true, CONVOLUTION},
    {DATA, 709, DESCRIPTOR, 1, true, TENSOR},
    {DATA, 710, DESCRIPTOR, 1, true, TENSOR},
    {DATA, 711, DESCRIPTOR, 1, true, TENSOR},
    {FILTER, 712, FLOAT, 1, true, 0},
    {FILTER, 713, FLOAT, 1, true, 0},
    {FILTER, 714, DESCRIPTOR, 1, true, CONVOLUTION},
    {FILTER, 715, DESCRIPTOR, 1, true, TENSOR},
    {FILTER, 716, DESCRIPTOR, 1, true, TENSOR},
    {FILTER, 717, DESCRIPTOR, 1, true, TENSOR},
    {GRAPH, 800, HANDLE, 1, false, 0},
    {GRAPH, 801, DESCRIPTOR, 1, true, -1, 4},
    {HEURISTIC, 200, HEUR_MODE, 1, true, 0},
    {HEURISTIC, 201, DESCRIPTOR, 1, true, GRAPH},
    {PLAN, 400, HANDLE, 1, true, 0},
    {PLAN, 401, DESCRIPTOR, 1, true, CONFIG},
    {PACK, 1000, INT64, 3, true, 0, 5},
    {PACK, 1001, POINTER, 3, true, 0, 5},
    {PACK, 1003, POINTER, 1, true, 0},
};

struct Descriptor {
    int kind = 0;
    bool final = false;
    std::map<int, std::vector<char>> values;
    // Of configurations and engines, which the library fills.
    Descriptor* graph = nullptr;
    int engine = -1;

    template <class T>
    T get(int name, int i = 0) const {
        T value;
        memcpy(&value, values.at(name).data() + i * sizeof(T), sizeof value);
        return value;
    }

    const Descriptor& to(int name, int i = 0) const { return *get<Descriptor*>(name, i); }

    std::size_t count(int name, std::size_t bytes) const { return values.at(name).size() / bytes; }
};

// The stream of every handle.
std::map<void*, void*> handles;

Status refuse(Status status, const char* what, int name) {
    fprintf(stderr, "emulated cuDNN: %s (%d)\n", what, name);
    return status;
}

std::size_t size(int type) {
    bool wide = type == HANDLE || type == INT64 || type == POINTER || type == DESCRIPTOR;
    return type == BOOLEAN ? 1 : wide ? 8 : 4;
}

struct Tensor {
    i64 extent[4], stride[4];
    explicit Tensor(const Descriptor& d) {
        for (int i = 0; i < 4; i++) extent[i] = d.get<i64>(902, i), stride[i] = d.get<i64>(903, i);
    }
    i64 at(i64 a, i64 b, i64 c, i64 d) const { return a * stride[0] + b * stride[1] + c * stride[2] + d * stride[3]; }
};

// The names of convolution, images, weights, results and of the two factors, in each operation.
struct Names {
    int conv, x, w, y, alpha, beta;
};

Names names(int kind) {
    if (kind == FORWARD) return {702, 704, 703, 705, 700, 701};
    if (kind == DATA) return {708, 710, 709, 711, 706, 707};
    return {714, 716, 715, 717, 712, 713};
}

Status check_tensor(const Descriptor& d) {
    Tensor t(d);
    i64 alignment = d.get<i64>(900);
    int type = d.get<int>(901);
    if (alignment <= 0 || (alignment & (alignment - 1)) != 0) return refuse(BAD_PARAM, "alignment", (int)alignment);
    if (type != F32 && type != BF16) return refuse(NOT_SUPPORTED, "type of a tensor", type);
    for (int i = 0; i < 4; i++) {
        if (t.extent[i] <= 0 || t.stride[i] <= 0) return refuse(BAD_PARAM, "extent or stride of axis", i);
    }
    return OK;
}

Status check_convolution(const Descriptor& d) {
    if (d.get<int>(100) != F32) return refuse(NOT_SUPPORTED, "type of sums", d.get<int>(100));
    if (d.get<int>(101) != CROSS_CORRELATION) return refuse(NOT_SUPPORTED, "mode of a convolution", d.get<int>(101));
    if (d.get<i64>(106) != 2) return refuse(BAD_PARAM, "axes of a convolution", (int)d.get<i64>(106));
    for (int i = 0; i < 2; i++) {
        bool walks = d.get<i64>(102, i) >= 1 && d.get<i64>(103, i) >= 1;
        if (!walks || d.get<i64>(104, i) < 0 || d.get<i64>(105, i) < 0) return refuse(BAD_PARAM, "window of axis", i);
    }
    return OK;
}

Status check_operation(const Descriptor& d) {
    Names n = names(d.kind);
    const Descriptor& conv = d.to(n.conv);
    Tensor x(d.to(n.x)), w(d.to(n.w)), y(d.to(n.y));
    int type = d.to(n.x).get<int>(901);
    bool inside = d.to(n.y).values.count(907) > 0;
    int result = inside ? F32 : type;
    if (d.to(n.w).get<int>(901) != type || d.to(n.y).get<int>(901) != result) return refuse(NOT_SUPPORTED, "mixed types", type);
    if (d.get<float>(n.alpha) != 1 || d.get<float>(n.beta) != 0) return refuse(NOT_SUPPORTED, "factors", n.alpha);
    i64 groups = x.extent[1] / w.extent[1];
    bool channels = groups * w.extent[1] == x.extent[1] && w.extent[0] % groups == 0 && y.extent[1] == w.extent[0];
    if (!channels || x.extent[0] != y.extent[0]) return refuse(BAD_PARAM, "channels or images do not fit", d.kind);
    for (int i = 0; i < 2; i++) {
        i64 window = (w.extent[2 + i] - 1) * conv.get<i64>(102, i) + 1;
        i64 room = x.extent[2 + i] + conv.get<i64>(104, i) + conv.get<i64>(105, i) - window;
        if (room < 0 || y.extent[2 + i] != room / conv.get<i64>(103, i) + 1) return refuse(BAD_PARAM, "extent of axis", i);
    }
    return OK;
}

// What is added has the extents of the values, or those of one value for each channel.
Status check_step(const Descriptor& d) {
    const Descriptor& what = d.to(750);
    int mode = what.get<int>(0);
    if (what.get<int>(1) != F32) return refuse(NOT_SUPPORTED, "type of sums", what.get<int>(1));
    if (mode != ADD && mode != RELU) return refuse(NOT_SUPPORTED, "pointwise mode", mode);
    if ((mode == ADD) != (d.values.count(752) > 0)) return refuse(BAD_PARAM, "operands of pointwise mode", mode);
    Tensor x(d.to(751)), y(d.to(753));
    for (int i = 0; i < 4; i++) {
        bool fits = x.extent[i] == y.extent[i] && x.stride[i] == y.stride[i];
        if (mode == ADD) {
            i64 with = Tensor(d.to(752)).extent[i];
            fits = fits && (with == x.extent[i] || with == 1);
        }
        if (!fits) return refuse(BAD_PARAM, "pointwise extent of axis", i);
    }
    return OK;
}

// A convolution, and pointwise steps of which each takes what the one before it has written.
Status check_graph(const Descriptor& d) {
    std::size_t operations = d.count(801, 8);
    for (std::size_t i = 1; i < operations; i++) {
        const Descriptor &before = d.to(801, i - 1), &step = d.to(801, i);
        bool begins = i == 1 && before.kind == FORWARD;
        if (step.kind != POINTWISE_STEP || !(begins || before.kind == POINTWISE_STEP)) {
            return refuse(NOT_SUPPORTED, "operations of a graph", (int)i);
        }
        const Descriptor& written = before.to(begins ? 705 : 753);
        if (&written != &step.to(751) || written.values.count(907) == 0) return refuse(BAD_PARAM, "chain of a graph", (int)i);
    }
    const Descriptor& last = d.to(801, operations - 1);
    int result = last.kind == POINTWISE_STEP ? 753 : last.kind == FORWARD ? 705 : last.kind == DATA ? 709 : 716;
    if (last.to(result).values.count(907) > 0) return refuse(BAD_PARAM, "a graph that writes nothing", 801);
    return OK;
}

i64 groups(const Descriptor& graph) {
    const Descriptor& operation = graph.to(801);
    Names n = names(operation.kind);
    return Tensor(operation.to(n.x)).extent[1] / Tensor(operation.to(n.w)).extent[1];
}

// Calls f(place in x, place in w, place in y) for every product of the sum.
template <class F>
void each(const Descriptor& operation, F f) {
    Names names_ = names(operation.kind);
    const Descriptor& conv = operation.to(names_.conv);
    Tensor x(operation.to(names_.x)), w(operation.to(names_.w)), y(operation.to(names_.y));
    i64 own_in = w.extent[1], own_out = w.extent[0] / (x.extent[1] / own_in);
    i64 dilation[2], stride[2], pad[2];
    for (int i = 0; i < 2; i++) {
        dilation[i] = conv.get<i64>(102, i), stride[i] = conv.get<i64>(103, i), pad[i] = conv.get<i64>(105, i);
    }
    for (i64 n = 0; n < y.extent[0]; n++)
        for (i64 i = 0; i < y.extent[2]; i++)
            for (i64 j = 0; j < y.extent[3]; j++)
                for (i64 r = 0; r < w.extent[2]; r++)
                    for (i64 s = 0; s < w.extent[3]; s++) {
                        i64 row = i * stride[0] - pad[0] + r * dilation[0], column = j * stride[1] - pad[1] + s * dilation[1];
                        if (row < 0 || row >= x.extent[2] || column < 0 || column >= x.extent[3]) continue;
                        for (i64 k = 0; k < w.extent[0]; k++)
                            for (i64 c = 0; c < own_in; c++) {
                                i64 channel = k / own_out * own_in + c;
                                f(x.at(n, channel, row, column), w.at(k, c, r, s), y.at(n, k, i, j));
                            }
                    }
}

template <class F>
void each_element(const Tensor& t, F f) {
    for (i64 a = 0; a < t.extent[0]; a++)
        for (i64 b = 0; b < t.extent[1]; b++)
            for (i64 c = 0; c < t.extent[2]; c++)
                for (i64 d = 0; d < t.extent[3]; d++) f(a, b, c, d);
}

float load(const void* from, int type, i64 at) {
    return type == F32 ? static_cast<const float*>(from)[at] : (float)static_cast<const Bf16*>(from)[at];
}

// Where the tensors of a graph are, by their names.
typedef std::map<i64, void*> Places;

void* place(const Places& places, const Descriptor& tensor) { return places.at(tensor.get<i64>(906)); }

// Sums in f32, each rounded once at the end, after all steps.
template <class T>
void convolve(const Descriptor& graph, const Places& places) {
    const Descriptor& operation = graph.to(801);
    Names n = names(operation.kind);
    int result = operation.kind == FORWARD ? n.y : operation.kind == DATA ? n.x : n.w;
    auto at = [&](int name) {
        const Descriptor& tensor = operation.to(name);
        return tensor.values.count(907) > 0 ? nullptr : static_cast<T*>(place(places, tensor));
    };
    T *x = at(n.x), *w = at(n.w), *y = at(n.y);
    Tensor to(operation.to(result));
    i64 last = 0;
    for (int i = 0; i < 4; i++) last += (to.extent[i] - 1) * to.stride[i];
    std::vector<float> sums(last + 1, 0.0f);
    each(operation, [&](i64 at_x, i64 at_w, i64 at_y) {
        if (operation.kind == FORWARD) sums[at_y] += (float)x[at_x] * (float)w[at_w];
        if (operation.kind == DATA) sums[at_x] += (float)w[at_w] * (float)y[at_y];
        if (operation.kind == FILTER) sums[at_w] += (float)x[at_x] * (float)y[at_y];
    });
    std::size_t operations = graph.count(801, 8);
    T* out = operations > 1 ? static_cast<T*>(place(places, graph.to(801, operations - 1).to(753))) : at(result);
    for (std::size_t i = 1; i < operations; i++) {
        const Descriptor& step = graph.to(801, i);
        bool adds = step.to(750).get<int>(0) == ADD;
        each_element(to, [&](i64 a, i64 b, i64 c, i64 d) {
            float& sum = sums[to.at(a, b, c, d)];
            if (!adds) {
                sum = sum > 0 ? sum : 0;
                return;
            }
            const Descriptor& with = step.to(752);
            Tensor t(with);
            i64 index[4] = {a, b, c, d};
            for (int axis = 0; axis < 4; axis++) index[axis] = t.extent[axis] == 1 ? 0 : index[axis];
            sum += load(place(places, with), with.get<int>(901), t.at(index[0], index[1], index[2], index[3]));
        });
    }
    each_element(to, [&](i64 a, i64 b, i64 c, i64 d) { out[to.at(a, b, c, d)] = sums[to.at(a, b, c, d)]; });
}

}  // namespace

extern "C" {

std::size_t cudnnGetVersion() { return 92100; }

Status cudnnCreate(void** handle) {
    *handle = new char;
    handles[*handle] = nullptr;
    return OK;
}

Status cudnnDestroy(void* handle) {
    if (handles.erase(handle) == 0) return BAD_PARAM;
    delete static_cast<char*>(handle);
    return OK;
}

Status cudnnSetStream(void* handle, void* stream) {
    if (handles.count(handle) == 0) return BAD_PARAM;
    handles[handle] = stream;
    return OK;
}

Status cudnnBackendCreateDescriptor(int kind, void** descriptor) {
    bool known = kind == ENGINE || kind == CONFIG;
    for (const Attribute& a : table) known = known || a.kind == kind;
    if (!known) return refuse(NOT_SUPPORTED, "kind of descriptor", kind);
    *descriptor = new Descriptor();
    static_cast<Descriptor*>(*descriptor)->kind = kind;
    return OK;
}

Status cudnnBackendDestroyDescriptor(void* descriptor) {
    delete static_cast<Descriptor*>(descriptor);
    return OK;
}

Status cudnnBackendSetAttribute(void* descriptor, int name, int type, i64 count, const void* from) {
    Descriptor& d = *static_cast<Descriptor*>(descriptor);
    if (d.final) return refuse(BAD_PARAM, "set after it was finalized", name);
    for (const Attribute& a : table) {
        if (a.kind != d.kind || a.name != name) continue;
        bool fits = count >= a.count && count <= (a.most ? a.most : a.count);
        if (a.type != type || !fits || from == nullptr) return refuse(BAD_PARAM, "type or number of", name);
        const char* bytes = static_cast<const char*>(from);
        d.values[name].assign(bytes, bytes + count * size(type));
        if (type == HANDLE && handles.count(d.get<void*>(name)) == 0) return refuse(BAD_PARAM, "another handle", name);
        for (int i = 0; type == DESCRIPTOR && i < count; i++) {
            const Descriptor& to = d.to(name, i);
            bool operation = to.kind == FORWARD || to.kind == DATA || to.kind == FILTER || to.kind == POINTWISE_STEP;
            bool fits = a.refers < 0 ? operation : to.kind == a.refers;
            if (!to.final || !fits) return refuse(BAD_PARAM, "not finalized, or of another kind", name);
        }
        return OK;
    }
    return refuse(NOT_SUPPORTED, "attribute", name);
}

Status cudnnBackendFinalize(void* descriptor) {
    Descriptor& d = *static_cast<Descriptor*>(descriptor);
    if (d.final || d.kind == ENGINE || d.kind == CONFIG) return refuse(BAD_PARAM, "finalized twice, or by the library", d.kind);
    for (const Attribute& a : table) {
        bool here = d.values.count(a.name) > 0;
        if (a.kind == d.kind && a.required && !here) return refuse(BAD_PARAM, "missing", a.name);
    }
    Status status = OK;
    if (d.kind == TENSOR) status = check_tensor(d);
    if (d.kind == CONVOLUTION) status = check_convolution(d);
    if (d.kind == FORWARD || d.kind == DATA || d.kind == FILTER) status = check_operation(d);
    if (d.kind == POINTWISE_STEP) status = check_step(d);
    if (d.kind == GRAPH) status = check_graph(d);
    if (d.kind == HEURISTIC) {
        int mode = d.get<int>(200);
        if (d.to(201).values.count(800) == 0) return refuse(BAD_PARAM, "a graph without a handle", 201);
        if (mode != FALLBACK && mode != MODE_A) return refuse(NOT_SUPPORTED, "mode", mode);
        // As some modes of the library: groups are for the fallback. Nothing went wrong, so nothing is said.
        if (mode == MODE_A && groups(d.to(201)) > 1) return NOT_SUPPORTED;
    }
    // No engine for many groups, so that the backend has to do without.
    if (d.kind == PLAN && groups(*d.to(401).graph) > 2) return NOT_SUPPORTED;
    d.final = status == OK;
    return status;
}

// Two engines: the first is fast and wrong, and the backend must not take it.
Status cudnnBackendGetAttribute(void* descriptor, int name, int type, i64 room, i64* count, void* to) {
    Descriptor& d = *static_cast<Descriptor*>(descriptor);
    if (!d.final) return refuse(BAD_PARAM, "asked before it was finalized", name);
    if (d.kind == HEURISTIC && name == 202 && type == DESCRIPTOR) {
        *count = 2;
        for (int i = 0; i < room && i < 2; i++) {
            Descriptor& config = *static_cast<Descriptor**>(to)[i];
            if (config.kind != CONFIG) return refuse(BAD_PARAM, "kind of a result", config.kind);
            config.graph = d.get<Descriptor*>(201), config.engine = i, config.final = true;
        }
        return OK;
    }
    if (d.kind == CONFIG && name == 300 && type == DESCRIPTOR && room == 1) {
        Descriptor& engine = **static_cast<Descriptor**>(to);
        if (engine.kind != ENGINE) return refuse(BAD_PARAM, "kind of an engine", engine.kind);
        engine.graph = d.graph, engine.engine = d.engine, engine.final = true;
        *count = 1;
        return OK;
    }
    if (d.kind == ENGINE && name == 1303 && type == NOTE) {
        const Descriptor& operation = d.graph->to(801);
        bool narrow = operation.to(names(operation.kind).x).get<int>(901) == BF16;
        std::vector<int> notes{STRICT_NAN};
        if (narrow || d.engine == 0) notes.push_back(TENSOR_CORE);
        if (d.engine == 0) notes.push_back(NONDETERMINISTIC);
        *count = (i64)notes.size();
        for (i64 i = 0; i < room && i < *count; i++) static_cast<int*>(to)[i] = notes[i];
        return OK;
    }
    if (d.kind == ENGINE && name == 1301 && type == INT64 && room == 1) {
        *static_cast<i64*>(to) = d.engine;
        *count = 1;
        return OK;
    }
    if (d.kind == PLAN && name == 402 && type == INT64 && room == 1) {
        *static_cast<i64*>(to) = WORKSPACE;
        *count = 1;
        return OK;
    }
    return refuse(NOT_SUPPORTED, "asked for", name);
}

Status cudnnBackendExecute(void* handle, void* plan, void* variant_pack) {
    const Descriptor &p = *static_cast<Descriptor*>(plan), &pack = *static_cast<Descriptor*>(variant_pack);
    if (handles.count(handle) == 0 || p.kind != PLAN || pack.kind != PACK || !p.final || !pack.final) {
        return refuse(BAD_PARAM, "what is executed", p.kind);
    }
    const Descriptor& config = p.to(401);
    if (config.engine != 1) return refuse(NOT_SUPPORTED, "engine that is not deterministic", config.engine);
    const Descriptor& graph = *config.graph;
    Places places;
    for (std::size_t i = 0; i < pack.count(1000, 8); i++) places[pack.get<i64>(1000, i)] = pack.get<void*>(1001, i);
    for (std::size_t i = 0; i < graph.count(801, 8); i++) {
        for (const auto& value : graph.to(801, i).values) {
            if (value.second.size() != 8 || graph.to(801, i).to(value.first).kind != TENSOR) continue;
            const Descriptor& tensor = graph.to(801, i).to(value.first);
            if (tensor.values.count(907) > 0) continue;
            auto found = places.find(tensor.get<i64>(906));
            bool there = found != places.end() && found->second != nullptr;
            bool aligned = there && reinterpret_cast<std::size_t>(found->second) % tensor.get<i64>(900) == 0;
            if (!aligned) return refuse(BAD_PARAM, "pointer", (int)tensor.get<i64>(906));
        }
    }
    void* workspace = pack.get<void*>(1003);
    if (workspace == nullptr) return refuse(BAD_PARAM, "workspace", 1003);
    const Descriptor& operation = graph.to(801);
    bool single = operation.to(names(operation.kind).x).get<int>(901) == F32;
    // What is queued outlives the pack, but not the plan.
    return queue(handles[handle], [=, &graph] {
        // All of it, so that a block that is too small shows.
        memset(workspace, 0x5a, WORKSPACE);
        single ? convolve<float>(graph, places) : convolve<Bf16>(graph, places);
        return 0;
    });
}

}  // extern "C"
