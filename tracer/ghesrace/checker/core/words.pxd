# SPDX-License-Identifier: Apache-2.0
# The numbers of words.py as constants for the compiler; a test holds them equal.

cdef extern from *:
    """
    #define GHESRACE_NOWHERE -1
    #define GHESRACE_FORCE_CLOSE_NS 1000000000
    #define GHESRACE_TASKS_APART_NS 1000
    #define GHESRACE_NO 0
    #define GHESRACE_MAYBE 1
    #define GHESRACE_SURE 2
    #define GHESRACE_FRESH 0
    #define GHESRACE_BROADCAST 1
    #define GHESRACE_MAP_FLUSH 2
    #define GHESRACE_SAME_FRAME 3
    #define GHESRACE_INCIDENTAL 4
    #define GHESRACE_NONE 5
    #define GHESRACE_UNCERTAIN 6
    #define GHESRACE_CERTAIN 0
    #define GHESRACE_START 1
    #define GHESRACE_LOSS 2
    #define GHESRACE_ORDER 3
    #define GHESRACE_PTI 4
    #define GHESRACE_INCONSISTENT 5
    #define GHESRACE_TASK 0
    #define GHESRACE_SOFTIRQ 1
    #define GHESRACE_IRQ 2
    #define GHESRACE_NMI 3
    #define GHESRACE_LEVELS 4
    #define GHESRACE_K_MAP 1
    #define GHESRACE_K_MAP_END 2
    #define GHESRACE_K_UNMAP 3
    #define GHESRACE_K_UNMAP_END 4
    #define GHESRACE_K_INV_PAGE 5
    #define GHESRACE_K_INV_RANGE 6
    #define GHESRACE_K_INV_ALL 7
    #define GHESRACE_K_BCAST_RANGE 8
    #define GHESRACE_K_BCAST_ALL 9
    #define GHESRACE_K_BCAST_END 10
    #define GHESRACE_K_COPY 11
    #define GHESRACE_K_COPY_END 12
    #define GHESRACE_K_READ 13
    #define GHESRACE_K_WRITE 14
    #define GHESRACE_K_NOTIFY 15
    #define GHESRACE_K_NOTIFY_END 16
    #define GHESRACE_K_NMI_REF 17
    #define GHESRACE_K_EDIT 19
    #define GHESRACE_K_EDIT_END 20
    #define GHESRACE_K_SHOOTDOWN 21
    #define GHESRACE_K_LOSS 30
    #define GHESRACE_K_MARK 31
    #define GHESRACE_P_NOTHING 0
    #define GHESRACE_P_MAP 1
    #define GHESRACE_P_CLEAR 2
    #define GHESRACE_P_READ 3
    #define GHESRACE_P_INV 4
    #define GHESRACE_ROLE_MAP 1
    #define GHESRACE_ROLE_UNMAP 2
    #define GHESRACE_WRITE 0
    #define GHESRACE_EDIT 1
    #define GHESRACE_CALL 2
    #define GHESRACE_ENTRY 0
    #define GHESRACE_TABLE 1
    #define GHESRACE_STATUS 2
    #define GHESRACE_OBSERVED 0
    #define GHESRACE_PREDICTED 1
    #define GHESRACE_SAME_TABLE 2
    #define GHESRACE_OTHER_TABLE 3
    #define GHESRACE_UNDECIDED 4
    #define GHESRACE_MAPS 10
    #define GHESRACE_MAP 2
    #define GHESRACE_UNMAPS 8
    #define GHESRACE_OWN 224
    #define GHESRACE_TOLD 768
    #define GHESRACE_TOLD_END 1024
    #define GHESRACE_COPIES 6144
    #define GHESRACE_HANDLER 98304
    #define GHESRACE_ACCESSES 24576
    #define GHESRACE_BEGINS 34816
    #define GHESRACE_RESTS_ON 106474
    #define GHESRACE_N_HANDOFFS 1
    #define GHESRACE_N_LATENT 2
    #define GHESRACE_N_FORGIVEN 3
    #define GHESRACE_N_CLASSES 4
    #define GHESRACE_N_CAUSES 11
    #define GHESRACE_COUNTS 17
    #define GHESRACE_MOST_IN_DOUBT 128
    #define GHESRACE_PAGE_AFTER_SET 1
    #define GHESRACE_PAGE_AFTER_CLEAR 2
    #define GHESRACE_BROADCAST_AFTER_CLEAR 4
    #define GHESRACE_FLUSH_INSIDE 8
    #define GHESRACE_MAY_ALLOCATE 16
    #define GHESRACE_MAY_FREE 32
    #define GHESRACE_UNMAPS_STATUS 64
    #define GHESRACE_PAGE_BITS 12
    #define GHESRACE_PAGE 4096
    #define GHESRACE_NEVER 4611686018427387904LL
    #define GHESRACE_UNKNOWN_FRAME 18446744073709551615ULL
    """
    const long long NOWHERE "GHESRACE_NOWHERE"
    const long long FORCE_CLOSE_NS "GHESRACE_FORCE_CLOSE_NS"
    const long long TASKS_APART_NS "GHESRACE_TASKS_APART_NS"
    const long long NO "GHESRACE_NO"
    const long long MAYBE "GHESRACE_MAYBE"
    const long long SURE "GHESRACE_SURE"
    const long long FRESH "GHESRACE_FRESH"
    const long long BROADCAST "GHESRACE_BROADCAST"
    const long long MAP_FLUSH "GHESRACE_MAP_FLUSH"
    const long long SAME_FRAME "GHESRACE_SAME_FRAME"
    const long long INCIDENTAL "GHESRACE_INCIDENTAL"
    const long long NONE "GHESRACE_NONE"
    const long long UNCERTAIN "GHESRACE_UNCERTAIN"
    const long long CERTAIN "GHESRACE_CERTAIN"
    const long long START "GHESRACE_START"
    const long long LOSS "GHESRACE_LOSS"
    const long long ORDER "GHESRACE_ORDER"
    const long long PTI "GHESRACE_PTI"
    const long long INCONSISTENT "GHESRACE_INCONSISTENT"
    const long long TASK "GHESRACE_TASK"
    const long long SOFTIRQ "GHESRACE_SOFTIRQ"
    const long long IRQ "GHESRACE_IRQ"
    const long long NMI "GHESRACE_NMI"
    const long long LEVELS "GHESRACE_LEVELS"
    const long long K_MAP "GHESRACE_K_MAP"
    const long long K_MAP_END "GHESRACE_K_MAP_END"
    const long long K_UNMAP "GHESRACE_K_UNMAP"
    const long long K_UNMAP_END "GHESRACE_K_UNMAP_END"
    const long long K_INV_PAGE "GHESRACE_K_INV_PAGE"
    const long long K_INV_RANGE "GHESRACE_K_INV_RANGE"
    const long long K_INV_ALL "GHESRACE_K_INV_ALL"
    const long long K_BCAST_RANGE "GHESRACE_K_BCAST_RANGE"
    const long long K_BCAST_ALL "GHESRACE_K_BCAST_ALL"
    const long long K_BCAST_END "GHESRACE_K_BCAST_END"
    const long long K_COPY "GHESRACE_K_COPY"
    const long long K_COPY_END "GHESRACE_K_COPY_END"
    const long long K_READ "GHESRACE_K_READ"
    const long long K_WRITE "GHESRACE_K_WRITE"
    const long long K_NOTIFY "GHESRACE_K_NOTIFY"
    const long long K_NOTIFY_END "GHESRACE_K_NOTIFY_END"
    const long long K_NMI_REF "GHESRACE_K_NMI_REF"
    const long long K_EDIT "GHESRACE_K_EDIT"
    const long long K_EDIT_END "GHESRACE_K_EDIT_END"
    const long long K_SHOOTDOWN "GHESRACE_K_SHOOTDOWN"
    const long long K_LOSS "GHESRACE_K_LOSS"
    const long long K_MARK "GHESRACE_K_MARK"
    const long long P_NOTHING "GHESRACE_P_NOTHING"
    const long long P_MAP "GHESRACE_P_MAP"
    const long long P_CLEAR "GHESRACE_P_CLEAR"
    const long long P_READ "GHESRACE_P_READ"
    const long long P_INV "GHESRACE_P_INV"
    const long long ROLE_MAP "GHESRACE_ROLE_MAP"
    const long long ROLE_UNMAP "GHESRACE_ROLE_UNMAP"
    const long long WRITE "GHESRACE_WRITE"
    const long long EDIT "GHESRACE_EDIT"
    const long long CALL "GHESRACE_CALL"
    const long long ENTRY "GHESRACE_ENTRY"
    const long long TABLE "GHESRACE_TABLE"
    const long long STATUS "GHESRACE_STATUS"
    const long long OBSERVED "GHESRACE_OBSERVED"
    const long long PREDICTED "GHESRACE_PREDICTED"
    const long long SAME_TABLE "GHESRACE_SAME_TABLE"
    const long long OTHER_TABLE "GHESRACE_OTHER_TABLE"
    const long long UNDECIDED "GHESRACE_UNDECIDED"
    const long long MAPS "GHESRACE_MAPS"
    const long long MAP "GHESRACE_MAP"
    const long long UNMAPS "GHESRACE_UNMAPS"
    const long long OWN "GHESRACE_OWN"
    const long long TOLD "GHESRACE_TOLD"
    const long long TOLD_END "GHESRACE_TOLD_END"
    const long long COPIES "GHESRACE_COPIES"
    const long long HANDLER "GHESRACE_HANDLER"
    const long long ACCESSES "GHESRACE_ACCESSES"
    const long long BEGINS "GHESRACE_BEGINS"
    const long long RESTS_ON "GHESRACE_RESTS_ON"
    const long long N_HANDOFFS "GHESRACE_N_HANDOFFS"
    const long long N_LATENT "GHESRACE_N_LATENT"
    const long long N_FORGIVEN "GHESRACE_N_FORGIVEN"
    const long long N_CLASSES "GHESRACE_N_CLASSES"
    const long long N_CAUSES "GHESRACE_N_CAUSES"
    const long long COUNTS "GHESRACE_COUNTS"
    const long long MOST_IN_DOUBT "GHESRACE_MOST_IN_DOUBT"
    const long long PAGE_AFTER_SET "GHESRACE_PAGE_AFTER_SET"
    const long long PAGE_AFTER_CLEAR "GHESRACE_PAGE_AFTER_CLEAR"
    const long long BROADCAST_AFTER_CLEAR "GHESRACE_BROADCAST_AFTER_CLEAR"
    const long long FLUSH_INSIDE "GHESRACE_FLUSH_INSIDE"
    const long long MAY_ALLOCATE "GHESRACE_MAY_ALLOCATE"
    const long long MAY_FREE "GHESRACE_MAY_FREE"
    const long long UNMAPS_STATUS "GHESRACE_UNMAPS_STATUS"
    const long long PAGE_BITS "GHESRACE_PAGE_BITS"
    const long long PAGE "GHESRACE_PAGE"
    const long long NEVER "GHESRACE_NEVER"
    const unsigned long long UNKNOWN_FRAME "GHESRACE_UNKNOWN_FRAME"
