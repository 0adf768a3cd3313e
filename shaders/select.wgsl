// The rows that take a step: those whose depth, at first + row, is above it, in increasing order. One workgroup.
//
// Rows are taken WORKGROUP at a time. Each sets a bit in shared memory, and its place is the number of bits before its
// own: a prefix sum in two barriers, which assumes nothing of how invocations map to subgroups.

@group(0) @binding(0) var<storage, read> depths: array<u32>; // [first + rows]
@group(0) @binding(1) var<storage, read_write> list: array<u32>; // [rows]
@group(0) @binding(2) var<storage, read_write> chosen: array<u32>; // [1], how many
@group(0) @binding(3) var<storage, read> params: array<u32>; // rows, first, step

const WORDS: u32 = WORKGROUP / 32u;

var<workgroup> bits: array<atomic<u32>, WORDS>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(local_invocation_index) lane: u32) {
    let rows = params[0];
    let word = lane / 32u;
    let bit = lane % 32u;
    var count = 0u;
    for (var first = 0u; first < rows; first += WORKGROUP) {
        if lane < WORDS {
            atomicStore(&bits[lane], 0u);
        }
        workgroupBarrier();
        let row = first + lane;
        var taken = false;
        if row < rows {
            taken = depths[params[1] + row] > params[2];
        }
        if taken {
            atomicOr(&bits[word], 1u << bit);
        }
        workgroupBarrier();
        var place = count;
        for (var w = 0u; w < WORDS; w++) {
            let ones = atomicLoad(&bits[w]);
            let all = countOneBits(ones);
            count += all;
            if w < word {
                place += all;
            } else if w == word {
                place += countOneBits(ones & ((1u << bit) - 1u));
            }
        }
        if taken {
            list[place] = row;
        }
        workgroupBarrier();
    }
    if lane == 0u {
        chosen[0] = count;
    }
}
