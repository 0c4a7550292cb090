/* How often which time was measured, in steps of about 3 %, written as JSON. */

#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum {
    STEPS = 32, /* for each power of two */
    STEPS_LOG2 = 5,
    OCTAVES = 35, /* up to nine minutes */
};

static uint64_t histogram[OCTAVES * STEPS];

static void clear_histogram(void)
{
    memset(histogram, 0, sizeof histogram);
}

static void record(double seconds)
{
    uint64_t time = seconds > 0 ? (uint64_t)(seconds * 1e9) : 0;
    uint64_t limit = (1ULL << (OCTAVES + STEPS_LOG2 - 1)) - 1;
    if (time > limit)
        time = limit;
    int octave = 0;
    while ((time >> octave) >= 2 * STEPS)
        octave++;
    /* the first two octaves have steps of a nanosecond */
    histogram[octave * STEPS + (int)(time >> octave)]++;
}

/* Pairs: nanoseconds, at most, and how many. */
static void print_histogram(void)
{
    const char *separator = "";
    printf("[");
    for (int index = 0; index < OCTAVES * STEPS; index++) {
        int octave = index < 2 * STEPS ? 0 : index / STEPS - 1;
        uint64_t step = (uint64_t)(index - octave * STEPS);
        if (histogram[index] > 0) {
            printf("%s[%llu, %llu]", separator, (unsigned long long)(((step + 1) << octave) - 1),
                   (unsigned long long)histogram[index]);
            separator = ", ";
        }
    }
    printf("]");
}
