/* The C client's cells: the same workloads and words as the peers in Rust. Compiled by the parent
 * when the library is there; prints one line of JSON, or says on stderr why not. */

#include <math.h>
#include <nats/nats.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct {
    char workload[64], url[128], ca[512];
    int size, threads, subs, depth;
    long long ms, batch;
} plan = {.size = 16, .threads = 1, .subs = 1, .depth = 1, .ms = 1000, .batch = 200000};

static char *payload;
static natsConnection *connection;

static void check(natsStatus status, const char *what) {
    if (status != NATS_OK) {
        fprintf(stderr, "%s: %s\n", what, natsStatus_GetText(status));
        exit(1);
    }
}

static long long clock_nanos(clockid_t id) {
    struct timespec time;
    clock_gettime(id, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static long long now(void) { return clock_nanos(CLOCK_MONOTONIC); }

/* Latencies in nanoseconds, sorted in the end. */
typedef struct {
    long long *values;
    size_t count, room;
} Latencies;

static void record(Latencies *latencies, long long value) {
    if (latencies->count == latencies->room) {
        latencies->room = latencies->room ? latencies->room * 2 : 4096;
        latencies->values = realloc(latencies->values, latencies->room * sizeof(long long));
    }
    latencies->values[latencies->count++] = value;
}

static int compare(const void *a, const void *b) {
    long long x = *(const long long *)a, y = *(const long long *)b;
    return (x > y) - (x < y);
}

static double quantile(Latencies *latencies, double part) {
    size_t at = (size_t)(part * (double)latencies->count);
    return (double)latencies->values[at < latencies->count ? at : latencies->count - 1] / 1e3;
}

static long long wall_start, cpu_start;

static void meter_start(void) {
    wall_start = now();
    cpu_start = clock_nanos(CLOCK_PROCESS_CPUTIME_ID);
}

static void meter_finish(long long count, Latencies *latencies) {
    double cpu = (double)(clock_nanos(CLOCK_PROCESS_CPUTIME_ID) - cpu_start) / 1e3;
    double seconds = (double)(now() - wall_start) / 1e9;
    if (latencies && latencies->count) {
        qsort(latencies->values, latencies->count, sizeof(long long), compare);
        printf("{\"count\":%zu,\"seconds\":%.9f,\"cpu_us\":%.3f,\"p50_us\":%.3f,\"p99_us\":%.3f}\n",
               latencies->count, seconds, cpu, quantile(latencies, 0.5),
               quantile(latencies, 0.99));
    } else {
        printf("{\"count\":%lld,\"seconds\":%.9f,\"cpu_us\":%.3f}\n", count, seconds, cpu);
    }
    fflush(stdout);
    _Exit(0);
}

static natsConnection *open_connection(void) {
    natsConnection *opened = NULL;
    natsOptions *options = NULL;
    char url[160];
    snprintf(url, sizeof url, "nats://%s", plan.url);
    check(natsOptions_Create(&options), "options");
    check(natsOptions_SetURL(options, url), "url");
    check(natsConnection_Connect(&opened, options), "connect");
    natsOptions_Destroy(options);
    return opened;
}

static long long end_of_window(void) { return now() + plan.ms * 1000000LL; }

static void *publish_thread(void *unused) {
    (void)unused;
    long long end = end_of_window(), count = 0;
    while (now() < end) {
        for (int i = 0; i < 250; i++)
            check(natsConnection_Publish(connection, "pub.nowhere", payload, plan.size), "publish");
        count += 250;
    }
    return (void *)count;
}

static long long on_threads(void *(*body)(void *)) {
    pthread_t threads[64];
    long long sum = 0;
    for (int i = 1; i < plan.threads; i++) pthread_create(&threads[i], NULL, body, NULL);
    sum += (long long)body(NULL);
    for (int i = 1; i < plan.threads; i++) {
        void *one = NULL;
        pthread_join(threads[i], &one);
        sum += (long long)one;
    }
    return sum;
}

static void publish(void) {
    meter_start();
    long long count = on_threads(publish_thread);
    check(natsConnection_Flush(connection), "flush");
    meter_finish(count, NULL);
}

static natsSubscription *pulled;
static atomic_llong seen, goal;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t reached = PTHREAD_COND_INITIALIZER;
static int done;

static void signal_done(void) {
    pthread_mutex_lock(&lock);
    done = 1;
    pthread_cond_signal(&reached);
    pthread_mutex_unlock(&lock);
}

static void wait_done(void) {
    pthread_mutex_lock(&lock);
    while (!done) pthread_cond_wait(&reached, &lock);
    done = 0;
    pthread_mutex_unlock(&lock);
}

static void on_message(natsConnection *c, natsSubscription *s, natsMsg *message, void *closure) {
    (void)c, (void)s, (void)closure;
    natsMsg_Destroy(message);
    if (atomic_fetch_add(&seen, 1) + 1 == atomic_load(&goal)) signal_done();
}

static void order(long long count) {
    char text[96];
    snprintf(text, sizeof text, "%lld %d %d", count, plan.size, plan.subs);
    check(natsConnection_PublishString(connection, "feed.go", text), "order");
}

static void pull_round(long long count) {
    order(count);
    for (long long i = 0; i < count; i++) {
        natsMsg *message = NULL;
        check(natsSubscription_NextMsg(&message, pulled, 10000), "next");
        natsMsg_Destroy(message);
    }
}

static void handler_round(long long count) {
    atomic_fetch_add(&goal, count);
    order(count);
    wait_done();
}

static void pubsub_round(long long count) {
    atomic_fetch_add(&goal, count);
    for (long long i = 0; i < count; i++)
        check(natsConnection_Publish(connection, "sub.0", payload, plan.size), "publish");
    wait_done();
}

static void batches(void (*round)(long long)) {
    check(natsConnection_Flush(connection), "flush");
    round(plan.subs > 1000 ? plan.subs : 1000);
    meter_start();
    long long end = end_of_window(), count = 0;
    while (now() < end) {
        round(plan.batch);
        count += plan.batch;
    }
    meter_finish(count, NULL);
}

static void subscribe_handlers(void) {
    for (int number = 0; number < plan.subs; number++) {
        char subject[32];
        natsSubscription *subscription = NULL;
        snprintf(subject, sizeof subject, "sub.%d", number);
        check(natsConnection_Subscribe(&subscription, connection, subject, on_message, NULL),
              "subscribe");
        check(natsSubscription_SetPendingLimits(subscription, -1, -1), "limits");
    }
}

static void *request_thread(void *unused) {
    (void)unused;
    Latencies *latencies = calloc(1, sizeof *latencies);
    long long end = end_of_window();
    for (;;) {
        long long start = now();
        if (start >= end) return latencies;
        natsMsg *reply = NULL;
        check(natsConnection_Request(&reply, connection, "echo", payload, plan.size, 10000),
              "request");
        natsMsg_Destroy(reply);
        record(latencies, now() - start);
    }
}

static void request(void) {
    natsMsg *reply = NULL;
    check(natsConnection_Request(&reply, connection, "echo", payload, plan.size, 10000), "first");
    natsMsg_Destroy(reply);
    pthread_t threads[64];
    meter_start();
    for (int i = 1; i < plan.threads; i++) pthread_create(&threads[i], NULL, request_thread, NULL);
    Latencies *all = request_thread(NULL);
    for (int i = 1; i < plan.threads; i++) {
        void *one = NULL;
        pthread_join(threads[i], &one);
        Latencies *more = one;
        for (size_t j = 0; j < more->count; j++) record(all, more->values[j]);
    }
    meter_finish(0, all);
}

static void flush(void) {
    Latencies latencies = {0};
    check(natsConnection_Flush(connection), "flush");
    meter_start();
    long long end = end_of_window();
    while (now() < end) {
        long long start = now();
        check(natsConnection_Publish(connection, "pub.nowhere", payload, plan.size), "publish");
        check(natsConnection_Flush(connection), "flush");
        record(&latencies, now() - start);
    }
    meter_finish(0, &latencies);
}

static atomic_llong arrived_at;

static void on_wake(natsConnection *c, natsSubscription *s, natsMsg *message, void *closure) {
    (void)c, (void)s, (void)closure;
    atomic_store(&arrived_at, now());
    natsMsg_Destroy(message);
    signal_done();
}

static void wake(void) {
    natsConnection *receiver = open_connection();
    natsSubscription *subscription = NULL;
    Latencies latencies = {0};
    check(natsConnection_Subscribe(&subscription, receiver, "sub.0", on_wake, NULL), "subscribe");
    check(natsConnection_Flush(receiver), "flush");
    meter_start();
    long long end = end_of_window();
    while (now() < end) {
        struct timespec pause = {0, 1000000};
        nanosleep(&pause, NULL);
        long long start = now();
        check(natsConnection_Publish(connection, "sub.0", payload, plan.size), "publish");
        wait_done();
        record(&latencies, atomic_load(&arrived_at) - start);
    }
    meter_finish(0, &latencies);
}

static void connects(void) {
    Latencies latencies = {0};
    meter_start();
    long long end = now() + 3 * plan.ms * 1000000LL;
    for (int i = 0; i < 500; i++) {
        long long start = now();
        if (start >= end) break;
        natsConnection *one = open_connection();
        natsConnection_Close(one);
        natsConnection_Destroy(one);
        record(&latencies, now() - start);
    }
    meter_finish(0, &latencies);
}

static void sleep_ms(long long ms) {
    struct timespec pause = {ms / 1000, (ms % 1000) * 1000000L};
    nanosleep(&pause, NULL);
}

static void idle(void) {
    subscribe_handlers();
    check(natsConnection_Flush(connection), "flush");
    sleep_ms(300);
    meter_start();
    sleep_ms(plan.ms);
    meter_finish(1, NULL);
}

static void read_plan(int count, char **words) {
    for (int i = 1; i < count; i++) {
        char *value = strchr(words[i], '=');
        if (!value) continue;
        *value++ = 0;
        if (!strcmp(words[i], "workload")) snprintf(plan.workload, sizeof plan.workload, "%s", value);
        if (!strcmp(words[i], "url")) snprintf(plan.url, sizeof plan.url, "%s", value);
        if (!strcmp(words[i], "ca")) snprintf(plan.ca, sizeof plan.ca, "%s", value);
        if (!strcmp(words[i], "size")) plan.size = atoi(value);
        if (!strcmp(words[i], "threads")) plan.threads = atoi(value);
        if (!strcmp(words[i], "depth")) plan.depth = atoi(value);
        if (!strcmp(words[i], "subs")) plan.subs = atoi(value);
        if (!strcmp(words[i], "ms")) plan.ms = atoll(value);
        if (!strcmp(words[i], "batch")) plan.batch = atoll(value);
    }
}

int main(int count, char **words) {
    read_plan(count, words);
    if (plan.ca[0]) {
        /* The server must take the helpers beside it in clear, and this client speaks TLS only with
         * one that requires it. */
        fprintf(stderr, "not here: c has no TLS with a server that only offers it\n");
        return 1;
    }
    payload = malloc((size_t)plan.size + 1);
    memset(payload, 'x', (size_t)plan.size);
    const char *workload = plan.workload;
    int is_handler = !strcmp(workload, "handler") || !strcmp(workload, "pubsub");
    /* A thread for each subscription. */
    if (!(is_handler && plan.subs > 1000) && !strstr(workload, "memory")) {
        if (strcmp(workload, "connect")) connection = open_connection();
        if (!strcmp(workload, "publish")) publish();
        if (!strcmp(workload, "pull")) {
            check(natsConnection_SubscribeSync(&pulled, connection, "sub.0"), "subscribe");
            check(natsSubscription_SetPendingLimits(pulled, -1, -1), "limits");
            batches(pull_round);
        }
        if (is_handler) {
            subscribe_handlers();
            batches(!strcmp(workload, "handler") ? handler_round : pubsub_round);
        }
        /* Requests of so many threads: the pipeline of this client. */
        if (!strcmp(workload, "pipeline")) plan.threads = plan.depth;
        if (!strcmp(workload, "request") || !strcmp(workload, "pipeline")) request();
        if (!strcmp(workload, "flush")) flush();
        if (!strcmp(workload, "wake")) wake();
        if (!strcmp(workload, "connect")) connects();
        if (!strcmp(workload, "idle")) idle();
    }
    fprintf(stderr, "not here: c has no %s\n", workload);
    return 1;
}
