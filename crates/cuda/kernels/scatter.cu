// The adjoint of `gather`: adds each row to its place, repeated places in the order of the rows.
//
// First every place gets a linked list of the rows that go there; then one thread for each element walks the list of
// its place. The lists are in any order, so that the thread picks their members in rising order: the same bits always.

#define NOBODY 0xffffffffu
#define SHORT_LIST 16

// `head` holds NOBODY for every place.
KERNEL(scatter_link)(const u32* index, u32* head, u32* next, u32 count, u32 extent, u32* fault) {
    FOR_EACH(j, count) {
        u32 e = index[j];
        if (e < extent) {
            next[j] = atomicExch(&head[e], j);
        } else {
            *fault = 1;
        }
    }
}

KERNEL(scatter_sum)
(const STORED* x, const u32* index, const u32* head, const u32* next, STORED* to, u32 n, u32 count, u32 extent, u32 inner) {
    FOR_EACH(i, n) {
        u32 column = i % inner, e = i / inner % extent, row = i / inner / extent * count;
        u32 length = 0;
        for (u32 j = head[e]; j != NOBODY && length <= SHORT_LIST; j = next[j]) length++;
        REAL sum = 0;
        if (length > SHORT_LIST) {
            for (u32 j = 0; j < count; j++) {
                if (index[j] == e) sum += x[(row + j) * inner + column];
            }
        } else {
            u32 beyond = 0;
            for (u32 k = 0; k < length; k++) {
                u32 least = NOBODY;
                for (u32 j = head[e]; j != NOBODY; j = next[j]) {
                    if (j >= beyond && j < least) least = j;
                }
                sum += x[(row + least) * inner + column];
                beyond = least + 1;
            }
        }
        to[i] = sum;
    }
}
