/* The system's look-up of names, in which a test has the last word: a name that ends in ".test" has
 * the addresses that stand in the file of that name in the folder RESOLVER, behind the seconds that
 * the answer takes. No file: there is no such name. No address: it has none. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int lookup(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **result)
{
    lookup *real = (lookup *)dlsym(RTLD_NEXT, "getaddrinfo");
    const char *folder = getenv("RESOLVER");
    size_t length = name ? strlen(name) : 0;
    if (!folder || length < 5 || strcmp(name + length - 5, ".test") != 0)
        return real(name, service, hints, result);
    char path[4096], address[64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "r");
    if (!file)
        return EAI_NONAME;
    unsigned seconds = 0;
    if (fscanf(file, "%u", &seconds) != 1)
        seconds = 0;
    struct addrinfo **end = result;
    *end = NULL;
    int status = EAI_NODATA;
    while (fscanf(file, "%63s", address) == 1) {
        status = real(address, service, hints, end);
        if (status != 0)
            break;
        while (*end)
            end = &(*end)->ai_next;
    }
    fclose(file);
    sleep(seconds);
    return status;
}
