/* SPDX-License-Identifier: BSD-2-Clause

   Registers, records and encodings of iovirt's IOMMU and NIC, for authors of drivers in C11.
   Made from models/spec by `make docs`; do not edit.  docs/registers.md and docs/records.md say
   more.

   NAME is the offset of a register, NAME_MASK and NAME_SHIFT are those of a field.  A record that
   has fields of its own sizes is a struct of them; in any other, NAME_WORD tells the element of
   `word` that a field is in.  All are little-endian: on other machines, swap.

     uint64_t ddtp = IOVIRT_PUT(IOVIRT_IOMMU_DDTP_PPN, page) |
                     IOVIRT_PUT(IOVIRT_IOMMU_DDTP_MODE, IOVIRT_IOMMU_DDTP_MODE_LVL1);
     unsigned cause = IOVIRT_RECORD_GET(record, IOVIRT_IOMMU_FAULT_RECORD_CAUSE); */
#ifndef IOVIRT_H
#define IOVIRT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define IOVIRT_GET(value, field) (((value) & field##_MASK) >> field##_SHIFT)
#define IOVIRT_PUT(field, value) (((uint64_t)(value) << field##_SHIFT) & field##_MASK)
#define IOVIRT_RECORD_GET(record, field) IOVIRT_GET((record)->word[field##_WORD], field)
#define IOVIRT_RECORD_PUT(record, field, value) \
    ((record)->word[field##_WORD] = \
         ((record)->word[field##_WORD] & ~field##_MASK) | IOVIRT_PUT(field, value))

/* ---- IOMMU: registers ----------------------------------------------------------------------- */

#define IOVIRT_IOMMU_PAGE_BYTES 0x1000u
#define IOVIRT_IOMMU_VERSION_1_0 0x10u

#define IOVIRT_IOMMU_CAPABILITIES 0x0u /* What this IOMMU can do. */
#define IOVIRT_IOMMU_CAPABILITIES_VERSION_SHIFT 0
#define IOVIRT_IOMMU_CAPABILITIES_VERSION_MASK 0xffull /* Specification version, 0x10 for 1.0. */
#define IOVIRT_IOMMU_CAPABILITIES_SV32_SHIFT 8
#define IOVIRT_IOMMU_CAPABILITIES_SV32_MASK 0x100ull /* Sv32 first stage. */
#define IOVIRT_IOMMU_CAPABILITIES_SV39_SHIFT 9
#define IOVIRT_IOMMU_CAPABILITIES_SV39_MASK 0x200ull /* Sv39 first stage. */
#define IOVIRT_IOMMU_CAPABILITIES_SV48_SHIFT 10
#define IOVIRT_IOMMU_CAPABILITIES_SV48_MASK 0x400ull /* Sv48 first stage. */
#define IOVIRT_IOMMU_CAPABILITIES_SV57_SHIFT 11
#define IOVIRT_IOMMU_CAPABILITIES_SV57_MASK 0x800ull /* Sv57 first stage. */
#define IOVIRT_IOMMU_CAPABILITIES_SVRSW60T59B_SHIFT 14
#define IOVIRT_IOMMU_CAPABILITIES_SVRSW60T59B_MASK 0x4000ull /* PTE bits 60:59 are for software. */
#define IOVIRT_IOMMU_CAPABILITIES_SVPBMT_SHIFT 15
#define IOVIRT_IOMMU_CAPABILITIES_SVPBMT_MASK 0x8000ull /* Page-based memory types. */
#define IOVIRT_IOMMU_CAPABILITIES_SV32X4_SHIFT 16
#define IOVIRT_IOMMU_CAPABILITIES_SV32X4_MASK 0x10000ull /* Sv32x4 second stage. */
#define IOVIRT_IOMMU_CAPABILITIES_SV39X4_SHIFT 17
#define IOVIRT_IOMMU_CAPABILITIES_SV39X4_MASK 0x20000ull /* Sv39x4 second stage. */
#define IOVIRT_IOMMU_CAPABILITIES_SV48X4_SHIFT 18
#define IOVIRT_IOMMU_CAPABILITIES_SV48X4_MASK 0x40000ull /* Sv48x4 second stage. */
#define IOVIRT_IOMMU_CAPABILITIES_SV57X4_SHIFT 19
#define IOVIRT_IOMMU_CAPABILITIES_SV57X4_MASK 0x80000ull /* Sv57x4 second stage. */
#define IOVIRT_IOMMU_CAPABILITIES_AMO_MRIF_SHIFT 21
#define IOVIRT_IOMMU_CAPABILITIES_AMO_MRIF_MASK 0x200000ull /* Atomic updates of MRIFs. */
#define IOVIRT_IOMMU_CAPABILITIES_MSI_FLAT_SHIFT 22
#define IOVIRT_IOMMU_CAPABILITIES_MSI_FLAT_MASK 0x400000ull /* MSI translation, flat mode. */
#define IOVIRT_IOMMU_CAPABILITIES_MSI_MRIF_SHIFT 23
#define IOVIRT_IOMMU_CAPABILITIES_MSI_MRIF_MASK 0x800000ull /* MSI translation, MRIF mode. */
#define IOVIRT_IOMMU_CAPABILITIES_AMO_HWAD_SHIFT 24
#define IOVIRT_IOMMU_CAPABILITIES_AMO_HWAD_MASK 0x1000000ull /* Atomic updates of A and D bits. */
#define IOVIRT_IOMMU_CAPABILITIES_ATS_SHIFT 25
#define IOVIRT_IOMMU_CAPABILITIES_ATS_MASK 0x2000000ull /* PCIe ATS and PRI. */
#define IOVIRT_IOMMU_CAPABILITIES_T2GPA_SHIFT 26
/* ATS may return guest physical addresses. */
#define IOVIRT_IOMMU_CAPABILITIES_T2GPA_MASK 0x4000000ull
#define IOVIRT_IOMMU_CAPABILITIES_END_SHIFT 27
#define IOVIRT_IOMMU_CAPABILITIES_END_MASK 0x8000000ull /* Both endiannesses. */
#define IOVIRT_IOMMU_CAPABILITIES_IGS_SHIFT 28
#define IOVIRT_IOMMU_CAPABILITIES_IGS_MASK 0x30000000ull /* Interrupts: 0 MSI, 1 wired, 2 both. */
#define IOVIRT_IOMMU_CAPABILITIES_HPM_SHIFT 30
#define IOVIRT_IOMMU_CAPABILITIES_HPM_MASK 0x40000000ull /* Hardware performance monitor. */
#define IOVIRT_IOMMU_CAPABILITIES_DBG_SHIFT 31
#define IOVIRT_IOMMU_CAPABILITIES_DBG_MASK 0x80000000ull /* Translation-request registers. */
#define IOVIRT_IOMMU_CAPABILITIES_PAS_SHIFT 32
#define IOVIRT_IOMMU_CAPABILITIES_PAS_MASK 0x3f00000000ull /* Physical address bits. */
#define IOVIRT_IOMMU_CAPABILITIES_PD8_SHIFT 38
#define IOVIRT_IOMMU_CAPABILITIES_PD8_MASK 0x4000000000ull /* One-level PDT. */
#define IOVIRT_IOMMU_CAPABILITIES_PD17_SHIFT 39
#define IOVIRT_IOMMU_CAPABILITIES_PD17_MASK 0x8000000000ull /* Two-level PDT. */
#define IOVIRT_IOMMU_CAPABILITIES_PD20_SHIFT 40
#define IOVIRT_IOMMU_CAPABILITIES_PD20_MASK 0x10000000000ull /* Three-level PDT. */
#define IOVIRT_IOMMU_CAPABILITIES_QOSID_SHIFT 41
#define IOVIRT_IOMMU_CAPABILITIES_QOSID_MASK 0x20000000000ull /* QoS identifiers. */
#define IOVIRT_IOMMU_CAPABILITIES_NL_SHIFT 42
#define IOVIRT_IOMMU_CAPABILITIES_NL_MASK 0x40000000000ull /* Non-leaf PTE invalidation. */
#define IOVIRT_IOMMU_CAPABILITIES_S_SHIFT 43
#define IOVIRT_IOMMU_CAPABILITIES_S_MASK 0x80000000000ull /* Address-range invalidation. */

/* Features under software's control; to be changed only with ddtp Off and all queues off. */
#define IOVIRT_IOMMU_FCTL 0x8u
#define IOVIRT_IOMMU_FCTL_BE_SHIFT 0
#define IOVIRT_IOMMU_FCTL_BE_MASK 0x1u /* Big-endian accesses to in-memory structures. */
#define IOVIRT_IOMMU_FCTL_WSI_SHIFT 1
#define IOVIRT_IOMMU_FCTL_WSI_MASK 0x2u /* Wired interrupts in place of MSIs. */
#define IOVIRT_IOMMU_FCTL_GXL_SHIFT 2
#define IOVIRT_IOMMU_FCTL_GXL_MASK 0x4u /* 32-bit second stage. */

#define IOVIRT_IOMMU_DDTP 0x10u /* Device directory: mode and root. */
#define IOVIRT_IOMMU_DDTP_MODE_SHIFT 0
#define IOVIRT_IOMMU_DDTP_MODE_MASK 0xfull /* DdtpMode. */
#define IOVIRT_IOMMU_DDTP_BUSY_SHIFT 4
#define IOVIRT_IOMMU_DDTP_BUSY_MASK 0x10ull /* A write is still taking effect. */
#define IOVIRT_IOMMU_DDTP_PPN_SHIFT 10
#define IOVIRT_IOMMU_DDTP_PPN_MASK 0x3ffffffffffc00ull /* Root page of the DDT. */

#define IOVIRT_IOMMU_CQB 0x18u /* Command queue: base and size. */
#define IOVIRT_IOMMU_CQB_LOG2SZM1_SHIFT 0
#define IOVIRT_IOMMU_CQB_LOG2SZM1_MASK 0x1full /* log2 of the number of entries, minus one. */
#define IOVIRT_IOMMU_CQB_PPN_SHIFT 10
#define IOVIRT_IOMMU_CQB_PPN_MASK 0x3ffffffffffc00ull /* Page of the queue. */

#define IOVIRT_IOMMU_CQH 0x20u /* Command queue: head, read next. */
#define IOVIRT_IOMMU_CQH_INDEX_SHIFT 0
#define IOVIRT_IOMMU_CQH_INDEX_MASK 0xffffffffu /* Entry number. */

#define IOVIRT_IOMMU_CQT 0x24u /* Command queue: tail, written next. */
#define IOVIRT_IOMMU_CQT_INDEX_SHIFT 0
#define IOVIRT_IOMMU_CQT_INDEX_MASK 0xffffffffu /* Entry number. */

#define IOVIRT_IOMMU_FQB 0x28u /* Fault queue: base and size. */
#define IOVIRT_IOMMU_FQB_LOG2SZM1_SHIFT 0
#define IOVIRT_IOMMU_FQB_LOG2SZM1_MASK 0x1full /* log2 of the number of entries, minus one. */
#define IOVIRT_IOMMU_FQB_PPN_SHIFT 10
#define IOVIRT_IOMMU_FQB_PPN_MASK 0x3ffffffffffc00ull /* Page of the queue. */

#define IOVIRT_IOMMU_FQH 0x30u /* Fault queue: head, read next. */
#define IOVIRT_IOMMU_FQH_INDEX_SHIFT 0
#define IOVIRT_IOMMU_FQH_INDEX_MASK 0xffffffffu /* Entry number. */

#define IOVIRT_IOMMU_FQT 0x34u /* Fault queue: tail, written next. */
#define IOVIRT_IOMMU_FQT_INDEX_SHIFT 0
#define IOVIRT_IOMMU_FQT_INDEX_MASK 0xffffffffu /* Entry number. */

#define IOVIRT_IOMMU_PQB 0x38u /* Page-request queue: base and size; with ATS. */
#define IOVIRT_IOMMU_PQB_LOG2SZM1_SHIFT 0
#define IOVIRT_IOMMU_PQB_LOG2SZM1_MASK 0x1full /* log2 of the number of entries, minus one. */
#define IOVIRT_IOMMU_PQB_PPN_SHIFT 10
#define IOVIRT_IOMMU_PQB_PPN_MASK 0x3ffffffffffc00ull /* Page of the queue. */

#define IOVIRT_IOMMU_PQH 0x40u /* Page-request queue: head, read next; with ATS. */
#define IOVIRT_IOMMU_PQH_INDEX_SHIFT 0
#define IOVIRT_IOMMU_PQH_INDEX_MASK 0xffffffffu /* Entry number. */

#define IOVIRT_IOMMU_PQT 0x44u /* Page-request queue: tail, written next; with ATS. */
#define IOVIRT_IOMMU_PQT_INDEX_SHIFT 0
#define IOVIRT_IOMMU_PQT_INDEX_MASK 0xffffffffu /* Entry number. */

#define IOVIRT_IOMMU_CQCSR 0x48u /* Command queue: control and status. */
#define IOVIRT_IOMMU_CQCSR_CQEN_SHIFT 0
#define IOVIRT_IOMMU_CQCSR_CQEN_MASK 0x1u /* Command-queue enable. */
#define IOVIRT_IOMMU_CQCSR_CIE_SHIFT 1
#define IOVIRT_IOMMU_CQCSR_CIE_MASK 0x2u /* Command-queue interrupt enable. */
#define IOVIRT_IOMMU_CQCSR_CQMF_SHIFT 8
#define IOVIRT_IOMMU_CQCSR_CQMF_MASK 0x100u /* A command fetch or its memory access met a fault. */
#define IOVIRT_IOMMU_CQCSR_CMD_TO_SHIFT 9
#define IOVIRT_IOMMU_CQCSR_CMD_TO_MASK 0x200u /* An ATS invalidation timed out. */
#define IOVIRT_IOMMU_CQCSR_CMD_ILL_SHIFT 10
#define IOVIRT_IOMMU_CQCSR_CMD_ILL_MASK 0x400u /* Illegal or unsupported command. */
#define IOVIRT_IOMMU_CQCSR_FENCE_W_IP_SHIFT 11
#define IOVIRT_IOMMU_CQCSR_FENCE_W_IP_MASK 0x800u /* An IOFENCE.C asked for a wired interrupt. */
#define IOVIRT_IOMMU_CQCSR_CQON_SHIFT 16
#define IOVIRT_IOMMU_CQCSR_CQON_MASK 0x10000u /* The queue is on. */
#define IOVIRT_IOMMU_CQCSR_BUSY_SHIFT 17
#define IOVIRT_IOMMU_CQCSR_BUSY_MASK 0x20000u /* A write is still taking effect. */

#define IOVIRT_IOMMU_FQCSR 0x4cu /* Fault queue: control and status. */
#define IOVIRT_IOMMU_FQCSR_FQEN_SHIFT 0
#define IOVIRT_IOMMU_FQCSR_FQEN_MASK 0x1u /* Fault-queue enable. */
#define IOVIRT_IOMMU_FQCSR_FIE_SHIFT 1
#define IOVIRT_IOMMU_FQCSR_FIE_MASK 0x2u /* Fault-queue interrupt enable. */
#define IOVIRT_IOMMU_FQCSR_FQMF_SHIFT 8
#define IOVIRT_IOMMU_FQCSR_FQMF_MASK 0x100u /* Storing a record met a fault. */
#define IOVIRT_IOMMU_FQCSR_FQOF_SHIFT 9
#define IOVIRT_IOMMU_FQCSR_FQOF_MASK 0x200u /* A record was dropped because the queue was full. */
#define IOVIRT_IOMMU_FQCSR_FQON_SHIFT 16
#define IOVIRT_IOMMU_FQCSR_FQON_MASK 0x10000u /* The queue is on. */
#define IOVIRT_IOMMU_FQCSR_BUSY_SHIFT 17
#define IOVIRT_IOMMU_FQCSR_BUSY_MASK 0x20000u /* A write is still taking effect. */

#define IOVIRT_IOMMU_PQCSR 0x50u /* Page-request queue: control and status; with ATS. */
#define IOVIRT_IOMMU_PQCSR_PQEN_SHIFT 0
#define IOVIRT_IOMMU_PQCSR_PQEN_MASK 0x1u /* Page-request-queue enable. */
#define IOVIRT_IOMMU_PQCSR_PIE_SHIFT 1
#define IOVIRT_IOMMU_PQCSR_PIE_MASK 0x2u /* Page-request-queue interrupt enable. */
#define IOVIRT_IOMMU_PQCSR_PQMF_SHIFT 8
#define IOVIRT_IOMMU_PQCSR_PQMF_MASK 0x100u /* Storing a record met a fault. */
#define IOVIRT_IOMMU_PQCSR_PQOF_SHIFT 9
#define IOVIRT_IOMMU_PQCSR_PQOF_MASK 0x200u /* A record was dropped because the queue was full. */
#define IOVIRT_IOMMU_PQCSR_PQON_SHIFT 16
#define IOVIRT_IOMMU_PQCSR_PQON_MASK 0x10000u /* The queue is on. */
#define IOVIRT_IOMMU_PQCSR_BUSY_SHIFT 17
#define IOVIRT_IOMMU_PQCSR_BUSY_MASK 0x20000u /* A write is still taking effect. */

#define IOVIRT_IOMMU_IPSR 0x54u /* Interrupts pending; a cause that persists sets its bit again. */
#define IOVIRT_IOMMU_IPSR_CIP_SHIFT 0
#define IOVIRT_IOMMU_IPSR_CIP_MASK 0x1u /* Command queue. */
#define IOVIRT_IOMMU_IPSR_FIP_SHIFT 1
#define IOVIRT_IOMMU_IPSR_FIP_MASK 0x2u /* Fault queue. */
#define IOVIRT_IOMMU_IPSR_PMIP_SHIFT 2
#define IOVIRT_IOMMU_IPSR_PMIP_MASK 0x4u /* Performance monitor. */
#define IOVIRT_IOMMU_IPSR_PIP_SHIFT 3
#define IOVIRT_IOMMU_IPSR_PIP_MASK 0x8u /* Page-request queue. */

#define IOVIRT_IOMMU_IOCOUNTOVF 0x58u /* Overflow bits of all counters together; with HPM. */
#define IOVIRT_IOMMU_IOCOUNTOVF_CY_SHIFT 0
#define IOVIRT_IOMMU_IOCOUNTOVF_CY_MASK 0x1u /* Overflow of iohpmcycles. */
#define IOVIRT_IOMMU_IOCOUNTOVF_HPM_SHIFT 1
#define IOVIRT_IOMMU_IOCOUNTOVF_HPM_MASK 0xfffffffeu /* Overflow of iohpmctr1 to 31. */

#define IOVIRT_IOMMU_IOCOUNTINH 0x5cu /* Counters that stand still; with HPM. */
#define IOVIRT_IOMMU_IOCOUNTINH_CY_SHIFT 0
#define IOVIRT_IOMMU_IOCOUNTINH_CY_MASK 0x1u /* Stops iohpmcycles. */
#define IOVIRT_IOMMU_IOCOUNTINH_HPM_SHIFT 1
#define IOVIRT_IOMMU_IOCOUNTINH_HPM_MASK 0xfffffffeu /* Stops iohpmctr1 to 31. */

#define IOVIRT_IOMMU_IOHPMCYCLES 0x60u /* Cycle counter; with HPM. */
#define IOVIRT_IOMMU_IOHPMCYCLES_COUNTER_SHIFT 0
#define IOVIRT_IOMMU_IOHPMCYCLES_COUNTER_MASK 0x7fffffffffffffffull /* Cycles. */
#define IOVIRT_IOMMU_IOHPMCYCLES_OF_SHIFT 63
#define IOVIRT_IOMMU_IOHPMCYCLES_OF_MASK 0x8000000000000000ull /* Overflow. */

#define IOVIRT_IOMMU_IOHPMCTR(n) (0x68u + 0x8u * ((n) - 1u)) /* 1 to 31: Event counter; with HPM. */
#define IOVIRT_IOMMU_IOHPMCTR_COUNTER_SHIFT 0
#define IOVIRT_IOMMU_IOHPMCTR_COUNTER_MASK 0xffffffffffffffffull /* Events. */

/* 1 to 31: Events that the counter of the same number counts; with HPM. */
#define IOVIRT_IOMMU_IOHPMEVT(n) (0x160u + 0x8u * ((n) - 1u))
#define IOVIRT_IOMMU_IOHPMEVT_EVENTID_SHIFT 0
#define IOVIRT_IOMMU_IOHPMEVT_EVENTID_MASK 0x7fffull /* HpmEvent; 0 counts nothing. */
#define IOVIRT_IOMMU_IOHPMEVT_DMASK_SHIFT 15
#define IOVIRT_IOMMU_IOHPMEVT_DMASK_MASK 0x8000ull /* DID_GSCID is matched partially. */
#define IOVIRT_IOMMU_IOHPMEVT_PID_PSCID_SHIFT 16
#define IOVIRT_IOMMU_IOHPMEVT_PID_PSCID_MASK 0xfffff0000ull /* process_id, or PSCID if IDT. */
#define IOVIRT_IOMMU_IOHPMEVT_DID_GSCID_SHIFT 36
#define IOVIRT_IOMMU_IOHPMEVT_DID_GSCID_MASK 0xffffff000000000ull /* device_id, or GSCID if IDT. */
#define IOVIRT_IOMMU_IOHPMEVT_PV_PSCV_SHIFT 60
#define IOVIRT_IOMMU_IOHPMEVT_PV_PSCV_MASK 0x1000000000000000ull /* PID_PSCID is a filter. */
#define IOVIRT_IOMMU_IOHPMEVT_DV_GSCV_SHIFT 61
#define IOVIRT_IOMMU_IOHPMEVT_DV_GSCV_MASK 0x2000000000000000ull /* DID_GSCID is a filter. */
#define IOVIRT_IOMMU_IOHPMEVT_IDT_SHIFT 62
#define IOVIRT_IOMMU_IOHPMEVT_IDT_MASK 0x4000000000000000ull /* Filters are PSCID and GSCID. */
#define IOVIRT_IOMMU_IOHPMEVT_OF_SHIFT 63
#define IOVIRT_IOMMU_IOHPMEVT_OF_MASK 0x8000000000000000ull /* Overflow. */

#define IOVIRT_IOMMU_TR_REQ_IOVA 0x258u /* Address of a debug translation; with DBG. */
#define IOVIRT_IOMMU_TR_REQ_IOVA_VPN_SHIFT 12
#define IOVIRT_IOMMU_TR_REQ_IOVA_VPN_MASK 0xfffffffffffff000ull /* Page number of the IOVA. */

#define IOVIRT_IOMMU_TR_REQ_CTL 0x260u /* Control of a debug translation; with DBG. */
#define IOVIRT_IOMMU_TR_REQ_CTL_GO_BUSY_SHIFT 0
/* Starts a translation; reads 1 until it is done. */
#define IOVIRT_IOMMU_TR_REQ_CTL_GO_BUSY_MASK 0x1ull
#define IOVIRT_IOMMU_TR_REQ_CTL_PRIV_SHIFT 1
#define IOVIRT_IOMMU_TR_REQ_CTL_PRIV_MASK 0x2ull /* Privileged. */
#define IOVIRT_IOMMU_TR_REQ_CTL_EXE_SHIFT 2
#define IOVIRT_IOMMU_TR_REQ_CTL_EXE_MASK 0x4ull /* Execute. */
#define IOVIRT_IOMMU_TR_REQ_CTL_NW_SHIFT 3
#define IOVIRT_IOMMU_TR_REQ_CTL_NW_MASK 0x8ull /* No write. */
#define IOVIRT_IOMMU_TR_REQ_CTL_PID_SHIFT 12
#define IOVIRT_IOMMU_TR_REQ_CTL_PID_MASK 0xfffff000ull /* process_id. */
#define IOVIRT_IOMMU_TR_REQ_CTL_PV_SHIFT 32
#define IOVIRT_IOMMU_TR_REQ_CTL_PV_MASK 0x100000000ull /* process_id is valid. */
#define IOVIRT_IOMMU_TR_REQ_CTL_DID_SHIFT 40
#define IOVIRT_IOMMU_TR_REQ_CTL_DID_MASK 0xffffff0000000000ull /* device_id. */

#define IOVIRT_IOMMU_TR_RESPONSE 0x268u /* Answer of a debug translation; with DBG. */
#define IOVIRT_IOMMU_TR_RESPONSE_FAULT_SHIFT 0
#define IOVIRT_IOMMU_TR_RESPONSE_FAULT_MASK 0x1ull /* The translation met a fault. */
#define IOVIRT_IOMMU_TR_RESPONSE_PBMT_SHIFT 7
#define IOVIRT_IOMMU_TR_RESPONSE_PBMT_MASK 0x180ull /* Memory type. */
#define IOVIRT_IOMMU_TR_RESPONSE_S_SHIFT 9
#define IOVIRT_IOMMU_TR_RESPONSE_S_MASK 0x200ull /* The range is larger than 4 KiB, NAPOT in ppn. */
#define IOVIRT_IOMMU_TR_RESPONSE_PPN_SHIFT 10
#define IOVIRT_IOMMU_TR_RESPONSE_PPN_MASK 0x3ffffffffffc00ull /* Physical page number. */

/* QoS identifiers of directory, queue and MSI accesses; with QOSID. */
#define IOVIRT_IOMMU_IOMMU_QOSID 0x270u
#define IOVIRT_IOMMU_IOMMU_QOSID_RCID_SHIFT 0
#define IOVIRT_IOMMU_IOMMU_QOSID_RCID_MASK 0xfffu /* Resource control. */
#define IOVIRT_IOMMU_IOMMU_QOSID_MCID_SHIFT 16
#define IOVIRT_IOMMU_IOMMU_QOSID_MCID_MASK 0xfff0000u /* Monitoring. */

#define IOVIRT_IOMMU_ICVEC 0x2f8u /* Which vector each cause of an interrupt uses. */
#define IOVIRT_IOMMU_ICVEC_CIV_SHIFT 0
#define IOVIRT_IOMMU_ICVEC_CIV_MASK 0xfull /* Vector of the command queue. */
#define IOVIRT_IOMMU_ICVEC_FIV_SHIFT 4
#define IOVIRT_IOMMU_ICVEC_FIV_MASK 0xf0ull /* Vector of the fault queue. */
#define IOVIRT_IOMMU_ICVEC_PMIV_SHIFT 8
#define IOVIRT_IOMMU_ICVEC_PMIV_MASK 0xf00ull /* Vector of the performance monitor. */
#define IOVIRT_IOMMU_ICVEC_PIV_SHIFT 12
#define IOVIRT_IOMMU_ICVEC_PIV_MASK 0xf000ull /* Vector of the page-request queue. */

/* 0 to 15: Address that a vector writes; unless IGS is wired alone. */
#define IOVIRT_IOMMU_MSI_ADDR(n) (0x300u + 0x10u * (n))
#define IOVIRT_IOMMU_MSI_ADDR_ADDR_SHIFT 2
#define IOVIRT_IOMMU_MSI_ADDR_ADDR_MASK 0xfffffffffffffcull /* Address bits 55:2. */

/* 0 to 15: Data that a vector writes; unless IGS is wired alone. */
#define IOVIRT_IOMMU_MSI_DATA(n) (0x308u + 0x10u * (n))
#define IOVIRT_IOMMU_MSI_DATA_DATA_SHIFT 0
#define IOVIRT_IOMMU_MSI_DATA_DATA_MASK 0xffffffffu /* Data written. */

/* 0 to 15: Mask of a vector; unless IGS is wired alone. */
#define IOVIRT_IOMMU_MSI_VEC_CTL(n) (0x30cu + 0x10u * (n))
#define IOVIRT_IOMMU_MSI_VEC_CTL_M_SHIFT 0
#define IOVIRT_IOMMU_MSI_VEC_CTL_M_MASK 0x1u /* Masked. */

/* ---- NIC: registers ------------------------------------------------------------------------- */

#define IOVIRT_NIC_ADDRESS_BITS 0x18u
#define IOVIRT_NIC_BAR_BYTES 0x4000u
#define IOVIRT_NIC_COMMON_OFFSET 0x0u
#define IOVIRT_NIC_ISR_OFFSET 0x100u
#define IOVIRT_NIC_DEVICE_OFFSET 0x200u
#define IOVIRT_NIC_NOTIFY_OFFSET 0x1000u
#define IOVIRT_NIC_NOTIFY_MULTIPLIER 0x4u
#define IOVIRT_NIC_MSIX_TABLE_OFFSET 0x2000u
#define IOVIRT_NIC_MSIX_ENTRY_BYTES 0x10u
#define IOVIRT_NIC_MSIX_PBA_OFFSET 0x3000u
#define IOVIRT_NIC_MANAGEMENT_BASE 0x800000u
#define IOVIRT_NIC_FUNCTION_BYTES 0x800u
#define IOVIRT_NIC_CONFIG_BASE 0xc00000u
#define IOVIRT_NIC_CONFIG_BYTES 0x1000u
#define IOVIRT_NIC_BASE_FEATURES 0x11300010028ull
#define IOVIRT_NIC_PORT_SOURCE 0xffu
#define IOVIRT_NIC_BAR(f) ((f) * IOVIRT_NIC_BAR_BYTES) /* of function f */
/* management of function f */
#define IOVIRT_NIC_FUNCTION(f) (IOVIRT_NIC_MANAGEMENT_BASE + (f) * IOVIRT_NIC_FUNCTION_BYTES)
/* PCI configuration space of function f */
#define IOVIRT_NIC_CONFIG(f) (IOVIRT_NIC_CONFIG_BASE + (f) * IOVIRT_NIC_CONFIG_BYTES)
#define IOVIRT_NIC_FUNCTION_QUEUE_ERROR(q) (0x100u + 4u * (q))
#define IOVIRT_NIC_FUNCTION_STAT(s) (0x180u + 8u * (s))
#define IOVIRT_NIC_FUNCTION_QUEUE_STAT(q, s) (0x400u + 0x40u * (q) + 8u * (s))

#define IOVIRT_NIC_FUNCTION_CONTROL 0x0u /* FunctionControl. */

#define IOVIRT_NIC_FUNCTION_DEVICE_ID 0x4u /* device_id of the function's DMA. */

#define IOVIRT_NIC_FUNCTION_MAC_LOW 0x8u /* First four bytes of the MAC, first lowest. */

#define IOVIRT_NIC_FUNCTION_MAC_HIGH 0xcu /* Last two bytes of the MAC. */

/* PF: cycles that all wait for a group response; 0: ever. */
#define IOVIRT_NIC_FUNCTION_PAGE_TIMEOUT 0x10u

#define IOVIRT_NIC_FUNCTION_STATUS 0x14u /* device_status of the function. */

#define IOVIRT_NIC_FUNCTION_VLAN 0x18u /* FunctionVlan. */

#define IOVIRT_NIC_FUNCTION_EVENTS 0x1cu /* MailboxEvent. */

#define IOVIRT_NIC_FUNCTION_MAILBOX 0x20u /* PF: first function with events, plus 1; 0: none. */

#define IOVIRT_NIC_FUNCTION_MAILBOX_VECTOR 0x24u /* PF: vector raised for new events. */

#define IOVIRT_NIC_FUNCTION_RSS 0x2cu /* RssControl. */

#define IOVIRT_NIC_FUNCTION_RSS_TYPES 0x30u /* HashType. */

#define IOVIRT_NIC_FUNCTION_FEATURES_LOW 0x34u /* Features that the driver accepted. */

#define IOVIRT_NIC_FUNCTION_FEATURES_HIGH 0x38u /* Likewise, from bit 32 on. */

#define IOVIRT_NIC_FUNCTION_QUEUE_ENABLES 0x3cu /* Bit n: queue n of the function is enabled. */

/* 0 to 9: Toeplitz key, first byte lowest. */
#define IOVIRT_NIC_FUNCTION_RSS_KEY(n) (0x40u + 0x4u * (n))

#define IOVIRT_NIC_FUNCTION_BACKUP_LOW 0x68u /* Address of the function's backup rings, pages. */

#define IOVIRT_NIC_FUNCTION_BACKUP_HIGH 0x6cu /* Likewise, from bit 32 on. */

#define IOVIRT_NIC_FUNCTION_BACKUP 0x70u /* BackupRing. */

#define IOVIRT_NIC_FUNCTION_FAULT_STALL 0x74u /* PF: 1 lets no queue begin DMA while one waits. */

#define IOVIRT_NIC_FUNCTION_QUEUE_RESETS 0x78u /* Bit n: its driver reset queue n. */

#define IOVIRT_NIC_FUNCTION_RECEIVING 0x7cu /* Bit n: receive queue pair n has frames under way. */

/* 0 to 7: As mac_low, of a further MAC. */
#define IOVIRT_NIC_FUNCTION_MAC_FILTER_LOW(n) (0x80u + 0x8u * (n))

#define IOVIRT_NIC_FUNCTION_MAC_FILTER_HIGH(n) (0x84u + 0x8u * (n)) /* 0 to 7: MacFilterHigh. */

#define IOVIRT_NIC_FUNCTION_VLAN_FILTER(n) (0xc0u + 0x4u * (n)) /* 0 to 7: VlanFilter. */

#define IOVIRT_NIC_FUNCTION_CONTROL_SIZE 0xe0u /* Entries of the control queue; 0: not enabled. */

#define IOVIRT_NIC_FUNCTION_CONTROL_VECTOR 0xe4u /* Its vector; a write raises it. */

#define IOVIRT_NIC_FUNCTION_CONTROL_DESC_LOW 0xe8u /* Its desc area. */

#define IOVIRT_NIC_FUNCTION_CONTROL_DESC_HIGH 0xecu /* Its desc area. */

#define IOVIRT_NIC_FUNCTION_CONTROL_DRIVER_LOW 0xf0u /* Its driver area. */

#define IOVIRT_NIC_FUNCTION_CONTROL_DRIVER_HIGH 0xf4u /* Its driver area. */

#define IOVIRT_NIC_FUNCTION_CONTROL_DEVICE_LOW 0xf8u /* Its device area. */

#define IOVIRT_NIC_FUNCTION_CONTROL_DEVICE_HIGH 0xfcu /* Its device area. */

/* 0 to 15: QueueCoalescing of a queue. */
#define IOVIRT_NIC_FUNCTION_COALESCING(n) (0x300u + 0x4u * (n))

/* 0 to 31: Four queue pairs, the first lowest. */
#define IOVIRT_NIC_FUNCTION_RSS_TABLE(n) (0x380u + 0x4u * (n))

/* ---- PCI configuration space: pf ------------------------------------------------------------ */

#define IOVIRT_PCI_PF_VENDOR_ID 0x0u /* Vendor; FFFFh of VFs. */

#define IOVIRT_PCI_PF_DEVICE_ID 0x2u /* Device; FFFFh of VFs. */

#define IOVIRT_PCI_PF_COMMAND 0x4u /* Command. */
#define IOVIRT_PCI_PF_COMMAND_BUS_MASTER_SHIFT 2
#define IOVIRT_PCI_PF_COMMAND_BUS_MASTER_MASK 0x4u /* DMA and messages are allowed. */
#define IOVIRT_PCI_PF_COMMAND_MEMORY_SHIFT 1
#define IOVIRT_PCI_PF_COMMAND_MEMORY_MASK 0x2u /* BARs answer. */
#define IOVIRT_PCI_PF_COMMAND_PARITY_SHIFT 6
#define IOVIRT_PCI_PF_COMMAND_PARITY_MASK 0x40u /* Note parity errors; there are none. */
#define IOVIRT_PCI_PF_COMMAND_SERR_SHIFT 8
#define IOVIRT_PCI_PF_COMMAND_SERR_MASK 0x100u /* Report errors; there are none. */
#define IOVIRT_PCI_PF_COMMAND_INTERRUPT_DISABLE_SHIFT 10
#define IOVIRT_PCI_PF_COMMAND_INTERRUPT_DISABLE_MASK 0x400u /* The interrupt pin is not asserted. */

#define IOVIRT_PCI_PF_STATUS 0x6u /* Status. */
#define IOVIRT_PCI_PF_STATUS_CAPABILITIES_SHIFT 4
#define IOVIRT_PCI_PF_STATUS_CAPABILITIES_MASK 0x10u /* There is a list of capabilities. */
#define IOVIRT_PCI_PF_STATUS_INTERRUPT_SHIFT 3
#define IOVIRT_PCI_PF_STATUS_INTERRUPT_MASK 0x8u /* An interrupt waits, by pin. */

#define IOVIRT_PCI_PF_REVISION 0x8u /* Revision. */

#define IOVIRT_PCI_PF_CLASS_CODE 0x9u /* Interface. */
#define IOVIRT_PCI_PF_CLASS_CODE_VALUE_SHIFT 0
#define IOVIRT_PCI_PF_CLASS_CODE_VALUE_MASK 0xffu /* 0. */

#define IOVIRT_PCI_PF_SUBCLASS 0xau /* Subclass. */

#define IOVIRT_PCI_PF_BASE_CLASS 0xbu /* Base class. */

#define IOVIRT_PCI_PF_CACHE_LINE 0xcu /* Cache line size. */
#define IOVIRT_PCI_PF_CACHE_LINE_VALUE_SHIFT 0
#define IOVIRT_PCI_PF_CACHE_LINE_VALUE_MASK 0xffu /* Kept for software. */

#define IOVIRT_PCI_PF_BAR0 0x10u /* 0x4000 bytes, low half. */
#define IOVIRT_PCI_PF_BAR0_IO_SHIFT 0
#define IOVIRT_PCI_PF_BAR0_IO_MASK 0x1u /* 0: memory. */
#define IOVIRT_PCI_PF_BAR0_TYPE_SHIFT 1
#define IOVIRT_PCI_PF_BAR0_TYPE_MASK 0x6u /* 2: 64 bits. */
#define IOVIRT_PCI_PF_BAR0_PREFETCHABLE_SHIFT 3
#define IOVIRT_PCI_PF_BAR0_PREFETCHABLE_MASK 0x8u /* 0: reading has effects. */
#define IOVIRT_PCI_PF_BAR0_BASE_SHIFT 14
#define IOVIRT_PCI_PF_BAR0_BASE_MASK 0xffffc000u /* Address bits 31:14. */

#define IOVIRT_PCI_PF_BAR0_HIGH 0x14u /* High half. */
#define IOVIRT_PCI_PF_BAR0_HIGH_BASE_SHIFT 0
#define IOVIRT_PCI_PF_BAR0_HIGH_BASE_MASK 0xffffffffu /* Address bits 63:32. */

#define IOVIRT_PCI_PF_BAR2 0x18u /* 0x8000 bytes, low half. */
#define IOVIRT_PCI_PF_BAR2_IO_SHIFT 0
#define IOVIRT_PCI_PF_BAR2_IO_MASK 0x1u /* 0: memory. */
#define IOVIRT_PCI_PF_BAR2_TYPE_SHIFT 1
#define IOVIRT_PCI_PF_BAR2_TYPE_MASK 0x6u /* 2: 64 bits. */
#define IOVIRT_PCI_PF_BAR2_PREFETCHABLE_SHIFT 3
#define IOVIRT_PCI_PF_BAR2_PREFETCHABLE_MASK 0x8u /* 0: reading has effects. */
#define IOVIRT_PCI_PF_BAR2_BASE_SHIFT 15
#define IOVIRT_PCI_PF_BAR2_BASE_MASK 0xffff8000u /* Address bits 31:15. */

#define IOVIRT_PCI_PF_BAR2_HIGH 0x1cu /* High half. */
#define IOVIRT_PCI_PF_BAR2_HIGH_BASE_SHIFT 0
#define IOVIRT_PCI_PF_BAR2_HIGH_BASE_MASK 0xffffffffu /* Address bits 63:32. */

#define IOVIRT_PCI_PF_SUBSYSTEM_VENDOR 0x2cu /* Subsystem vendor. */

#define IOVIRT_PCI_PF_SUBSYSTEM_ID 0x2eu /* Subsystem. */

#define IOVIRT_PCI_PF_CAPABILITIES_POINTER 0x34u /* First capability. */

#define IOVIRT_PCI_PF_INTERRUPT_LINE 0x3cu /* Interrupt line. */
#define IOVIRT_PCI_PF_INTERRUPT_LINE_VALUE_SHIFT 0
#define IOVIRT_PCI_PF_INTERRUPT_LINE_VALUE_MASK 0xffu /* Kept for software. */

#define IOVIRT_PCI_PF_INTERRUPT_PIN 0x3du /* INTA, while MSI-X is disabled. */

#define IOVIRT_PCI_PF_PM_HEADER 0x40u /* Capability. */
#define IOVIRT_PCI_PF_PM_HEADER_ID_SHIFT 0
#define IOVIRT_PCI_PF_PM_HEADER_ID_MASK 0xffu /* CapabilityId. */
#define IOVIRT_PCI_PF_PM_HEADER_NEXT_SHIFT 8
#define IOVIRT_PCI_PF_PM_HEADER_NEXT_MASK 0xff00u /* Next capability; 0: none. */

#define IOVIRT_PCI_PF_PM_CAPABILITIES 0x42u /* Version 3, no D1, no D2, no PME. */

#define IOVIRT_PCI_PF_PM_CONTROL 0x44u /* Power state. */
#define IOVIRT_PCI_PF_PM_CONTROL_POWER_STATE_SHIFT 0
/* 0: D0, 3: D3hot; writes of 1 and 2 do nothing. */
#define IOVIRT_PCI_PF_PM_CONTROL_POWER_STATE_MASK 0x3u
#define IOVIRT_PCI_PF_PM_CONTROL_NO_SOFT_RESET_SHIFT 3
#define IOVIRT_PCI_PF_PM_CONTROL_NO_SOFT_RESET_MASK 0x8u /* 1: D3hot to D0 keeps all state. */

#define IOVIRT_PCI_PF_EXPRESS_HEADER 0x48u /* Capability. */
#define IOVIRT_PCI_PF_EXPRESS_HEADER_ID_SHIFT 0
#define IOVIRT_PCI_PF_EXPRESS_HEADER_ID_MASK 0xffu /* CapabilityId. */
#define IOVIRT_PCI_PF_EXPRESS_HEADER_NEXT_SHIFT 8
#define IOVIRT_PCI_PF_EXPRESS_HEADER_NEXT_MASK 0xff00u /* Next capability; 0: none. */

#define IOVIRT_PCI_PF_EXPRESS_CAPABILITIES 0x4au /* Kind of function. */
#define IOVIRT_PCI_PF_EXPRESS_CAPABILITIES_VERSION_SHIFT 0
#define IOVIRT_PCI_PF_EXPRESS_CAPABILITIES_VERSION_MASK 0xfu /* Of this structure. */
#define IOVIRT_PCI_PF_EXPRESS_CAPABILITIES_TYPE_SHIFT 4
/* 0 endpoint, 9 root complex integrated. */
#define IOVIRT_PCI_PF_EXPRESS_CAPABILITIES_TYPE_MASK 0xf0u

#define IOVIRT_PCI_PF_DEVICE_CAPABILITIES 0x4cu /* What it can do. */
#define IOVIRT_PCI_PF_DEVICE_CAPABILITIES_MAX_PAYLOAD_SHIFT 0
#define IOVIRT_PCI_PF_DEVICE_CAPABILITIES_MAX_PAYLOAD_MASK 0x7u /* 128 bytes. */
#define IOVIRT_PCI_PF_DEVICE_CAPABILITIES_ROLE_BASED_ERRORS_SHIFT 15
#define IOVIRT_PCI_PF_DEVICE_CAPABILITIES_ROLE_BASED_ERRORS_MASK 0x8000u /* Always 1. */
#define IOVIRT_PCI_PF_DEVICE_CAPABILITIES_FLR_SHIFT 28
#define IOVIRT_PCI_PF_DEVICE_CAPABILITIES_FLR_MASK 0x10000000u /* Function level reset is there. */

#define IOVIRT_PCI_PF_DEVICE_CONTROL 0x50u /* Device control. */
#define IOVIRT_PCI_PF_DEVICE_CONTROL_CORRECTABLE_ENABLE_SHIFT 0
/* Report correctable errors; there are none. */
#define IOVIRT_PCI_PF_DEVICE_CONTROL_CORRECTABLE_ENABLE_MASK 0x1u
#define IOVIRT_PCI_PF_DEVICE_CONTROL_NONFATAL_ENABLE_SHIFT 1
/* Report non-fatal errors; there are none. */
#define IOVIRT_PCI_PF_DEVICE_CONTROL_NONFATAL_ENABLE_MASK 0x2u
#define IOVIRT_PCI_PF_DEVICE_CONTROL_FATAL_ENABLE_SHIFT 2
/* Report fatal errors; there are none. */
#define IOVIRT_PCI_PF_DEVICE_CONTROL_FATAL_ENABLE_MASK 0x4u
#define IOVIRT_PCI_PF_DEVICE_CONTROL_UNSUPPORTED_ENABLE_SHIFT 3
/* Report unsupported requests; there are none. */
#define IOVIRT_PCI_PF_DEVICE_CONTROL_UNSUPPORTED_ENABLE_MASK 0x8u
#define IOVIRT_PCI_PF_DEVICE_CONTROL_MAX_READ_REQUEST_SHIFT 12
#define IOVIRT_PCI_PF_DEVICE_CONTROL_MAX_READ_REQUEST_MASK 0x7000u /* Largest read, 128 B << n. */
#define IOVIRT_PCI_PF_DEVICE_CONTROL_FLR_SHIFT 15
#define IOVIRT_PCI_PF_DEVICE_CONTROL_FLR_MASK 0x8000u /* Function level reset; reads 0. */

#define IOVIRT_PCI_PF_DEVICE_STATUS 0x52u /* Device status: no errors, nothing pending. */

#define IOVIRT_PCI_PF_LINK_CAPABILITIES 0x54u /* The link. */
#define IOVIRT_PCI_PF_LINK_CAPABILITIES_SPEED_SHIFT 0
#define IOVIRT_PCI_PF_LINK_CAPABILITIES_SPEED_MASK 0xfu /* 2.5 GT/s. */
#define IOVIRT_PCI_PF_LINK_CAPABILITIES_WIDTH_SHIFT 4
#define IOVIRT_PCI_PF_LINK_CAPABILITIES_WIDTH_MASK 0x3f0u /* One lane. */

#define IOVIRT_PCI_PF_LINK_STATUS 0x5au /* The link. */
#define IOVIRT_PCI_PF_LINK_STATUS_SPEED_SHIFT 0
#define IOVIRT_PCI_PF_LINK_STATUS_SPEED_MASK 0xfu /* 2.5 GT/s. */
#define IOVIRT_PCI_PF_LINK_STATUS_WIDTH_SHIFT 4
#define IOVIRT_PCI_PF_LINK_STATUS_WIDTH_MASK 0x3f0u /* One lane. */

#define IOVIRT_PCI_PF_DEVICE_CAPABILITIES_2 0x6cu /* Time-out. */
#define IOVIRT_PCI_PF_DEVICE_CAPABILITIES_2_DISABLE_SHIFT 4
/* The completion time-out can be disabled. */
#define IOVIRT_PCI_PF_DEVICE_CAPABILITIES_2_DISABLE_MASK 0x10u

#define IOVIRT_PCI_PF_DEVICE_CONTROL_2 0x70u /* Time-out. */
#define IOVIRT_PCI_PF_DEVICE_CONTROL_2_DISABLE_SHIFT 4
/* Disable the completion time-out; there is none. */
#define IOVIRT_PCI_PF_DEVICE_CONTROL_2_DISABLE_MASK 0x10u

#define IOVIRT_PCI_PF_MSIX_HEADER 0x84u /* Capability. */
#define IOVIRT_PCI_PF_MSIX_HEADER_ID_SHIFT 0
#define IOVIRT_PCI_PF_MSIX_HEADER_ID_MASK 0xffu /* CapabilityId. */
#define IOVIRT_PCI_PF_MSIX_HEADER_NEXT_SHIFT 8
#define IOVIRT_PCI_PF_MSIX_HEADER_NEXT_MASK 0xff00u /* Next capability; 0: none. */

#define IOVIRT_PCI_PF_MSIX_CONTROL 0x86u /* Message control. */
#define IOVIRT_PCI_PF_MSIX_CONTROL_TABLE_SIZE_SHIFT 0
#define IOVIRT_PCI_PF_MSIX_CONTROL_TABLE_SIZE_MASK 0x7ffu /* Vectors less 1. */
#define IOVIRT_PCI_PF_MSIX_CONTROL_FUNCTION_MASK_SHIFT 14
#define IOVIRT_PCI_PF_MSIX_CONTROL_FUNCTION_MASK_MASK 0x4000u /* Masks all vectors. */
#define IOVIRT_PCI_PF_MSIX_CONTROL_ENABLE_SHIFT 15
/* Interrupts are messages; else a PF has its pin, a VF none. */
#define IOVIRT_PCI_PF_MSIX_CONTROL_ENABLE_MASK 0x8000u

#define IOVIRT_PCI_PF_MSIX_TABLE 0x88u /* Offset of the table, in BAR 0. */

#define IOVIRT_PCI_PF_MSIX_PBA 0x8cu /* Offset of the pending bits, in BAR 0. */

#define IOVIRT_PCI_PF_VIRTIO_COMMON_HEADER 0x90u /* Capability. */
#define IOVIRT_PCI_PF_VIRTIO_COMMON_HEADER_ID_SHIFT 0
#define IOVIRT_PCI_PF_VIRTIO_COMMON_HEADER_ID_MASK 0xffu /* CapabilityId. */
#define IOVIRT_PCI_PF_VIRTIO_COMMON_HEADER_NEXT_SHIFT 8
#define IOVIRT_PCI_PF_VIRTIO_COMMON_HEADER_NEXT_MASK 0xff00u /* Next capability; 0: none. */

#define IOVIRT_PCI_PF_VIRTIO_COMMON_LENGTH 0x92u /* Bytes of this capability. */

#define IOVIRT_PCI_PF_VIRTIO_COMMON_TYPE 0x93u /* VirtioStructure. */

#define IOVIRT_PCI_PF_VIRTIO_COMMON_BAR 0x94u /* BAR. */
#define IOVIRT_PCI_PF_VIRTIO_COMMON_BAR_VALUE_SHIFT 0
#define IOVIRT_PCI_PF_VIRTIO_COMMON_BAR_VALUE_MASK 0xffu /* BAR. */

#define IOVIRT_PCI_PF_VIRTIO_COMMON_OFFSET 0x98u /* Offset in the BAR. */
#define IOVIRT_PCI_PF_VIRTIO_COMMON_OFFSET_VALUE_SHIFT 0
#define IOVIRT_PCI_PF_VIRTIO_COMMON_OFFSET_VALUE_MASK 0xffffffffu /* Offset in the BAR. */

#define IOVIRT_PCI_PF_VIRTIO_COMMON_BYTES 0x9cu /* Bytes. */
#define IOVIRT_PCI_PF_VIRTIO_COMMON_BYTES_VALUE_SHIFT 0
#define IOVIRT_PCI_PF_VIRTIO_COMMON_BYTES_VALUE_MASK 0xffffffffu /* Bytes. */

#define IOVIRT_PCI_PF_VIRTIO_NOTIFY_HEADER 0xa0u /* Capability. */
#define IOVIRT_PCI_PF_VIRTIO_NOTIFY_HEADER_ID_SHIFT 0
#define IOVIRT_PCI_PF_VIRTIO_NOTIFY_HEADER_ID_MASK 0xffu /* CapabilityId. */
#define IOVIRT_PCI_PF_VIRTIO_NOTIFY_HEADER_NEXT_SHIFT 8
#define IOVIRT_PCI_PF_VIRTIO_NOTIFY_HEADER_NEXT_MASK 0xff00u /* Next capability; 0: none. */

#define IOVIRT_PCI_PF_VIRTIO_NOTIFY_LENGTH 0xa2u /* Bytes of this capability. */

#define IOVIRT_PCI_PF_VIRTIO_NOTIFY_TYPE 0xa3u /* VirtioStructure. */

#define IOVIRT_PCI_PF_VIRTIO_NOTIFY_BAR 0xa4u /* BAR. */
#define IOVIRT_PCI_PF_VIRTIO_NOTIFY_BAR_VALUE_SHIFT 0
#define IOVIRT_PCI_PF_VIRTIO_NOTIFY_BAR_VALUE_MASK 0xffu /* BAR. */

#define IOVIRT_PCI_PF_VIRTIO_NOTIFY_OFFSET 0xa8u /* Offset in the BAR. */
#define IOVIRT_PCI_PF_VIRTIO_NOTIFY_OFFSET_VALUE_SHIFT 0
#define IOVIRT_PCI_PF_VIRTIO_NOTIFY_OFFSET_VALUE_MASK 0xffffffffu /* Offset in the BAR. */

#define IOVIRT_PCI_PF_VIRTIO_NOTIFY_BYTES 0xacu /* Bytes. */
#define IOVIRT_PCI_PF_VIRTIO_NOTIFY_BYTES_VALUE_SHIFT 0
#define IOVIRT_PCI_PF_VIRTIO_NOTIFY_BYTES_VALUE_MASK 0xffffffffu /* Bytes. */

#define IOVIRT_PCI_PF_VIRTIO_NOTIFY_MULTIPLIER 0xb0u /* Bytes per queue. */

#define IOVIRT_PCI_PF_VIRTIO_ISR_HEADER 0xb4u /* Capability. */
#define IOVIRT_PCI_PF_VIRTIO_ISR_HEADER_ID_SHIFT 0
#define IOVIRT_PCI_PF_VIRTIO_ISR_HEADER_ID_MASK 0xffu /* CapabilityId. */
#define IOVIRT_PCI_PF_VIRTIO_ISR_HEADER_NEXT_SHIFT 8
#define IOVIRT_PCI_PF_VIRTIO_ISR_HEADER_NEXT_MASK 0xff00u /* Next capability; 0: none. */

#define IOVIRT_PCI_PF_VIRTIO_ISR_LENGTH 0xb6u /* Bytes of this capability. */

#define IOVIRT_PCI_PF_VIRTIO_ISR_TYPE 0xb7u /* VirtioStructure. */

#define IOVIRT_PCI_PF_VIRTIO_ISR_BAR 0xb8u /* BAR. */
#define IOVIRT_PCI_PF_VIRTIO_ISR_BAR_VALUE_SHIFT 0
#define IOVIRT_PCI_PF_VIRTIO_ISR_BAR_VALUE_MASK 0xffu /* BAR. */

#define IOVIRT_PCI_PF_VIRTIO_ISR_OFFSET 0xbcu /* Offset in the BAR. */
#define IOVIRT_PCI_PF_VIRTIO_ISR_OFFSET_VALUE_SHIFT 0
#define IOVIRT_PCI_PF_VIRTIO_ISR_OFFSET_VALUE_MASK 0xffffffffu /* Offset in the BAR. */

#define IOVIRT_PCI_PF_VIRTIO_ISR_BYTES 0xc0u /* Bytes. */
#define IOVIRT_PCI_PF_VIRTIO_ISR_BYTES_VALUE_SHIFT 0
#define IOVIRT_PCI_PF_VIRTIO_ISR_BYTES_VALUE_MASK 0xffffffffu /* Bytes. */

#define IOVIRT_PCI_PF_VIRTIO_DEVICE_HEADER 0xc4u /* Capability. */
#define IOVIRT_PCI_PF_VIRTIO_DEVICE_HEADER_ID_SHIFT 0
#define IOVIRT_PCI_PF_VIRTIO_DEVICE_HEADER_ID_MASK 0xffu /* CapabilityId. */
#define IOVIRT_PCI_PF_VIRTIO_DEVICE_HEADER_NEXT_SHIFT 8
#define IOVIRT_PCI_PF_VIRTIO_DEVICE_HEADER_NEXT_MASK 0xff00u /* Next capability; 0: none. */

#define IOVIRT_PCI_PF_VIRTIO_DEVICE_LENGTH 0xc6u /* Bytes of this capability. */

#define IOVIRT_PCI_PF_VIRTIO_DEVICE_TYPE 0xc7u /* VirtioStructure. */

#define IOVIRT_PCI_PF_VIRTIO_DEVICE_BAR 0xc8u /* BAR. */
#define IOVIRT_PCI_PF_VIRTIO_DEVICE_BAR_VALUE_SHIFT 0
#define IOVIRT_PCI_PF_VIRTIO_DEVICE_BAR_VALUE_MASK 0xffu /* BAR. */

#define IOVIRT_PCI_PF_VIRTIO_DEVICE_OFFSET 0xccu /* Offset in the BAR. */
#define IOVIRT_PCI_PF_VIRTIO_DEVICE_OFFSET_VALUE_SHIFT 0
#define IOVIRT_PCI_PF_VIRTIO_DEVICE_OFFSET_VALUE_MASK 0xffffffffu /* Offset in the BAR. */

#define IOVIRT_PCI_PF_VIRTIO_DEVICE_BYTES 0xd0u /* Bytes. */
#define IOVIRT_PCI_PF_VIRTIO_DEVICE_BYTES_VALUE_SHIFT 0
#define IOVIRT_PCI_PF_VIRTIO_DEVICE_BYTES_VALUE_MASK 0xffffffffu /* Bytes. */

#define IOVIRT_PCI_PF_VIRTIO_PCI_HEADER 0xd4u /* Capability. */
#define IOVIRT_PCI_PF_VIRTIO_PCI_HEADER_ID_SHIFT 0
#define IOVIRT_PCI_PF_VIRTIO_PCI_HEADER_ID_MASK 0xffu /* CapabilityId. */
#define IOVIRT_PCI_PF_VIRTIO_PCI_HEADER_NEXT_SHIFT 8
#define IOVIRT_PCI_PF_VIRTIO_PCI_HEADER_NEXT_MASK 0xff00u /* Next capability; 0: none. */

#define IOVIRT_PCI_PF_VIRTIO_PCI_LENGTH 0xd6u /* Bytes of this capability. */

#define IOVIRT_PCI_PF_VIRTIO_PCI_TYPE 0xd7u /* VirtioStructure. */

#define IOVIRT_PCI_PF_VIRTIO_PCI_BAR 0xd8u /* BAR. */
#define IOVIRT_PCI_PF_VIRTIO_PCI_BAR_VALUE_SHIFT 0
#define IOVIRT_PCI_PF_VIRTIO_PCI_BAR_VALUE_MASK 0xffu /* BAR. */

#define IOVIRT_PCI_PF_VIRTIO_PCI_OFFSET 0xdcu /* Offset in the BAR. */
#define IOVIRT_PCI_PF_VIRTIO_PCI_OFFSET_VALUE_SHIFT 0
#define IOVIRT_PCI_PF_VIRTIO_PCI_OFFSET_VALUE_MASK 0xffffffffu /* Offset in the BAR. */

#define IOVIRT_PCI_PF_VIRTIO_PCI_BYTES 0xe0u /* Bytes. */
#define IOVIRT_PCI_PF_VIRTIO_PCI_BYTES_VALUE_SHIFT 0
#define IOVIRT_PCI_PF_VIRTIO_PCI_BYTES_VALUE_MASK 0xffffffffu /* Bytes. */

#define IOVIRT_PCI_PF_VIRTIO_PCI_DATA 0xe4u /* Window on the BAR. */
#define IOVIRT_PCI_PF_VIRTIO_PCI_DATA_VALUE_SHIFT 0
/* What is at the offset, 1, 2 or 4 bytes. */
#define IOVIRT_PCI_PF_VIRTIO_PCI_DATA_VALUE_MASK 0xffffffffu

#define IOVIRT_PCI_PF_VIRTIO_VENDOR_HEADER 0xe8u /* Capability. */
#define IOVIRT_PCI_PF_VIRTIO_VENDOR_HEADER_ID_SHIFT 0
#define IOVIRT_PCI_PF_VIRTIO_VENDOR_HEADER_ID_MASK 0xffu /* CapabilityId. */
#define IOVIRT_PCI_PF_VIRTIO_VENDOR_HEADER_NEXT_SHIFT 8
#define IOVIRT_PCI_PF_VIRTIO_VENDOR_HEADER_NEXT_MASK 0xff00u /* Next capability; 0: none. */

#define IOVIRT_PCI_PF_VIRTIO_VENDOR_LENGTH 0xeau /* Bytes of this capability. */

#define IOVIRT_PCI_PF_VIRTIO_VENDOR_TYPE 0xebu /* VirtioStructure. */

#define IOVIRT_PCI_PF_VIRTIO_VENDOR_ID 0xecu /* Whose structure it is; not virtio's. */

#define IOVIRT_PCI_PF_VIRTIO_VENDOR_BAR 0xeeu /* BAR of the management pages. */

#define IOVIRT_PCI_PF_VIRTIO_VENDOR_BYTES 0xf0u /* Their bytes. */

#define IOVIRT_PCI_PF_VIRTIO_VENDOR_BLOCK 0xf4u /* Bytes of a function's block. */

#define IOVIRT_PCI_PF_ARI_HEADER 0x100u /* Extended capability. */
#define IOVIRT_PCI_PF_ARI_HEADER_ID_SHIFT 0
#define IOVIRT_PCI_PF_ARI_HEADER_ID_MASK 0xffffu /* ExtendedId. */
#define IOVIRT_PCI_PF_ARI_HEADER_VERSION_SHIFT 16
#define IOVIRT_PCI_PF_ARI_HEADER_VERSION_MASK 0xf0000u /* Version. */
#define IOVIRT_PCI_PF_ARI_HEADER_NEXT_SHIFT 20
#define IOVIRT_PCI_PF_ARI_HEADER_NEXT_MASK 0xfff00000u /* Next capability; 0: none. */

#define IOVIRT_PCI_PF_ARI_CAPABILITY 0x104u /* Functions. */
#define IOVIRT_PCI_PF_ARI_CAPABILITY_NEXT_SHIFT 8
#define IOVIRT_PCI_PF_ARI_CAPABILITY_NEXT_MASK 0xff00u /* Next function; 0: none. */

#define IOVIRT_PCI_PF_SRIOV_HEADER 0x108u /* Extended capability. */
#define IOVIRT_PCI_PF_SRIOV_HEADER_ID_SHIFT 0
#define IOVIRT_PCI_PF_SRIOV_HEADER_ID_MASK 0xffffu /* ExtendedId. */
#define IOVIRT_PCI_PF_SRIOV_HEADER_VERSION_SHIFT 16
#define IOVIRT_PCI_PF_SRIOV_HEADER_VERSION_MASK 0xf0000u /* Version. */
#define IOVIRT_PCI_PF_SRIOV_HEADER_NEXT_SHIFT 20
#define IOVIRT_PCI_PF_SRIOV_HEADER_NEXT_MASK 0xfff00000u /* Next capability; 0: none. */

#define IOVIRT_PCI_PF_SRIOV_CAPABILITIES 0x10cu /* No migration. */

#define IOVIRT_PCI_PF_SRIOV_CONTROL 0x110u /* Control. */
#define IOVIRT_PCI_PF_SRIOV_CONTROL_VF_ENABLE_SHIFT 0
#define IOVIRT_PCI_PF_SRIOV_CONTROL_VF_ENABLE_MASK 0x1u /* The first num_vfs VFs are there. */
#define IOVIRT_PCI_PF_SRIOV_CONTROL_VF_MEMORY_SHIFT 3
#define IOVIRT_PCI_PF_SRIOV_CONTROL_VF_MEMORY_MASK 0x8u /* Their BARs answer. */
#define IOVIRT_PCI_PF_SRIOV_CONTROL_ARI_SHIFT 4
#define IOVIRT_PCI_PF_SRIOV_CONTROL_ARI_MASK 0x10u /* The hierarchy is ARI capable. */

#define IOVIRT_PCI_PF_SRIOV_STATUS 0x112u /* No migration. */

#define IOVIRT_PCI_PF_INITIAL_VFS 0x114u /* VFs at first. */

#define IOVIRT_PCI_PF_TOTAL_VFS 0x116u /* VFs at most. */

#define IOVIRT_PCI_PF_NUM_VFS 0x118u /* VFs wanted. */
#define IOVIRT_PCI_PF_NUM_VFS_VALUE_SHIFT 0
/* VFs to be; keeps its value while vf_enable is 1. */
#define IOVIRT_PCI_PF_NUM_VFS_VALUE_MASK 0xffffu

#define IOVIRT_PCI_PF_DEPENDENCY_LINK 0x11au /* The PF's function number: none. */

#define IOVIRT_PCI_PF_FIRST_VF_OFFSET 0x11cu /* From the PF's routing ID. */

#define IOVIRT_PCI_PF_VF_STRIDE 0x11eu /* From VF to VF. */

#define IOVIRT_PCI_PF_VF_DEVICE 0x122u /* Device ID of the VFs. */

#define IOVIRT_PCI_PF_SUPPORTED_PAGE_SIZES 0x124u /* Page sizes. */
#define IOVIRT_PCI_PF_SUPPORTED_PAGE_SIZES_VALUE_SHIFT 0
#define IOVIRT_PCI_PF_SUPPORTED_PAGE_SIZES_VALUE_MASK 0xffffffffu /* Page sizes, 4 KiB << n. */

#define IOVIRT_PCI_PF_SYSTEM_PAGE_SIZE 0x128u /* One of them; aligns VF BARs. */
#define IOVIRT_PCI_PF_SYSTEM_PAGE_SIZE_PAGE_4K_SHIFT 0
#define IOVIRT_PCI_PF_SYSTEM_PAGE_SIZE_PAGE_4K_MASK 0x1u /* Pages of 4 KiB. */
#define IOVIRT_PCI_PF_SYSTEM_PAGE_SIZE_PAGE_8K_SHIFT 1
#define IOVIRT_PCI_PF_SYSTEM_PAGE_SIZE_PAGE_8K_MASK 0x2u /* Pages of 8 KiB. */
#define IOVIRT_PCI_PF_SYSTEM_PAGE_SIZE_PAGE_64K_SHIFT 4
#define IOVIRT_PCI_PF_SYSTEM_PAGE_SIZE_PAGE_64K_MASK 0x10u /* Pages of 64 KiB. */
#define IOVIRT_PCI_PF_SYSTEM_PAGE_SIZE_PAGE_256K_SHIFT 6
#define IOVIRT_PCI_PF_SYSTEM_PAGE_SIZE_PAGE_256K_MASK 0x40u /* Pages of 256 KiB. */
#define IOVIRT_PCI_PF_SYSTEM_PAGE_SIZE_PAGE_1024K_SHIFT 8
#define IOVIRT_PCI_PF_SYSTEM_PAGE_SIZE_PAGE_1024K_MASK 0x100u /* Pages of 1024 KiB. */
#define IOVIRT_PCI_PF_SYSTEM_PAGE_SIZE_PAGE_4096K_SHIFT 10
#define IOVIRT_PCI_PF_SYSTEM_PAGE_SIZE_PAGE_4096K_MASK 0x400u /* Pages of 4096 KiB. */

#define IOVIRT_PCI_PF_VF_BAR0 0x12cu /* 0x4000 bytes, low half. */
#define IOVIRT_PCI_PF_VF_BAR0_IO_SHIFT 0
#define IOVIRT_PCI_PF_VF_BAR0_IO_MASK 0x1u /* 0: memory. */
#define IOVIRT_PCI_PF_VF_BAR0_TYPE_SHIFT 1
#define IOVIRT_PCI_PF_VF_BAR0_TYPE_MASK 0x6u /* 2: 64 bits. */
#define IOVIRT_PCI_PF_VF_BAR0_PREFETCHABLE_SHIFT 3
#define IOVIRT_PCI_PF_VF_BAR0_PREFETCHABLE_MASK 0x8u /* 0: reading has effects. */
#define IOVIRT_PCI_PF_VF_BAR0_BASE_SHIFT 14
#define IOVIRT_PCI_PF_VF_BAR0_BASE_MASK 0xffffc000u /* Address bits 31:14. */

#define IOVIRT_PCI_PF_VF_BAR0_HIGH 0x130u /* High half. */
#define IOVIRT_PCI_PF_VF_BAR0_HIGH_BASE_SHIFT 0
#define IOVIRT_PCI_PF_VF_BAR0_HIGH_BASE_MASK 0xffffffffu /* Address bits 63:32. */

#define IOVIRT_PCI_PF_ATS_HEADER 0x148u /* Extended capability. */
#define IOVIRT_PCI_PF_ATS_HEADER_ID_SHIFT 0
#define IOVIRT_PCI_PF_ATS_HEADER_ID_MASK 0xffffu /* ExtendedId. */
#define IOVIRT_PCI_PF_ATS_HEADER_VERSION_SHIFT 16
#define IOVIRT_PCI_PF_ATS_HEADER_VERSION_MASK 0xf0000u /* Version. */
#define IOVIRT_PCI_PF_ATS_HEADER_NEXT_SHIFT 20
#define IOVIRT_PCI_PF_ATS_HEADER_NEXT_MASK 0xfff00000u /* Next capability; 0: none. */

#define IOVIRT_PCI_PF_ATS_CAPABILITY 0x14cu /* What it can do. */
#define IOVIRT_PCI_PF_ATS_CAPABILITY_QUEUE_DEPTH_SHIFT 0
/* Invalidations taken at once; 0: see the PF. */
#define IOVIRT_PCI_PF_ATS_CAPABILITY_QUEUE_DEPTH_MASK 0x1fu
#define IOVIRT_PCI_PF_ATS_CAPABILITY_PAGE_ALIGNED_SHIFT 5
#define IOVIRT_PCI_PF_ATS_CAPABILITY_PAGE_ALIGNED_MASK 0x20u /* Asks for whole pages. */

#define IOVIRT_PCI_PF_ATS_CONTROL 0x14eu /* Control. */
#define IOVIRT_PCI_PF_ATS_CONTROL_UNIT_SHIFT 0
#define IOVIRT_PCI_PF_ATS_CONTROL_UNIT_MASK 0x1fu /* Smallest translation unit, 4 KiB << n. */
#define IOVIRT_PCI_PF_ATS_CONTROL_ENABLE_SHIFT 15
#define IOVIRT_PCI_PF_ATS_CONTROL_ENABLE_MASK 0x8000u /* Ask for translations. */

#define IOVIRT_PCI_PF_PRI_HEADER 0x150u /* Extended capability. */
#define IOVIRT_PCI_PF_PRI_HEADER_ID_SHIFT 0
#define IOVIRT_PCI_PF_PRI_HEADER_ID_MASK 0xffffu /* ExtendedId. */
#define IOVIRT_PCI_PF_PRI_HEADER_VERSION_SHIFT 16
#define IOVIRT_PCI_PF_PRI_HEADER_VERSION_MASK 0xf0000u /* Version. */
#define IOVIRT_PCI_PF_PRI_HEADER_NEXT_SHIFT 20
#define IOVIRT_PCI_PF_PRI_HEADER_NEXT_MASK 0xfff00000u /* Next capability; 0: none. */

#define IOVIRT_PCI_PF_PRI_CONTROL 0x154u /* Control. */
#define IOVIRT_PCI_PF_PRI_CONTROL_ENABLE_SHIFT 0
#define IOVIRT_PCI_PF_PRI_CONTROL_ENABLE_MASK 0x1u /* Page requests may be sent. */
#define IOVIRT_PCI_PF_PRI_CONTROL_RESET_SHIFT 1
/* Forget requests that are outstanding; reads 0. */
#define IOVIRT_PCI_PF_PRI_CONTROL_RESET_MASK 0x2u

#define IOVIRT_PCI_PF_PRI_STATUS 0x156u /* Status. */
#define IOVIRT_PCI_PF_PRI_STATUS_FAILURE_SHIFT 0
#define IOVIRT_PCI_PF_PRI_STATUS_FAILURE_MASK 0x1u /* A response said failure. */
#define IOVIRT_PCI_PF_PRI_STATUS_UNEXPECTED_SHIFT 1
#define IOVIRT_PCI_PF_PRI_STATUS_UNEXPECTED_MASK 0x2u /* A response that nobody waited for. */
#define IOVIRT_PCI_PF_PRI_STATUS_STOPPED_SHIFT 8
#define IOVIRT_PCI_PF_PRI_STATUS_STOPPED_MASK 0x100u /* Disabled, and nothing outstanding. */

#define IOVIRT_PCI_PF_PRI_CAPACITY 0x158u /* Page requests that could be outstanding. */

#define IOVIRT_PCI_PF_PRI_ALLOCATION 0x15cu /* Page requests that may be outstanding. */
#define IOVIRT_PCI_PF_PRI_ALLOCATION_VALUE_SHIFT 0
/* Page requests that may be outstanding. */
#define IOVIRT_PCI_PF_PRI_ALLOCATION_VALUE_MASK 0xffffffffu

#define IOVIRT_PCI_PF_PASID_HEADER 0x160u /* Extended capability. */
#define IOVIRT_PCI_PF_PASID_HEADER_ID_SHIFT 0
#define IOVIRT_PCI_PF_PASID_HEADER_ID_MASK 0xffffu /* ExtendedId. */
#define IOVIRT_PCI_PF_PASID_HEADER_VERSION_SHIFT 16
#define IOVIRT_PCI_PF_PASID_HEADER_VERSION_MASK 0xf0000u /* Version. */
#define IOVIRT_PCI_PF_PASID_HEADER_NEXT_SHIFT 20
#define IOVIRT_PCI_PF_PASID_HEADER_NEXT_MASK 0xfff00000u /* Next capability; 0: none. */

#define IOVIRT_PCI_PF_PASID_CAPABILITY 0x164u /* What it can do. */
#define IOVIRT_PCI_PF_PASID_CAPABILITY_WIDTH_SHIFT 8
#define IOVIRT_PCI_PF_PASID_CAPABILITY_WIDTH_MASK 0x1f00u /* Bits of a PASID. */

#define IOVIRT_PCI_PF_PASID_CONTROL 0x166u /* Control. */
#define IOVIRT_PCI_PF_PASID_CONTROL_ENABLE_SHIFT 0
#define IOVIRT_PCI_PF_PASID_CONTROL_ENABLE_MASK 0x1u /* PASIDs may be sent. */

#define IOVIRT_PCI_PF_ACS_HEADER 0x168u /* Extended capability. */
#define IOVIRT_PCI_PF_ACS_HEADER_ID_SHIFT 0
#define IOVIRT_PCI_PF_ACS_HEADER_ID_MASK 0xffffu /* ExtendedId. */
#define IOVIRT_PCI_PF_ACS_HEADER_VERSION_SHIFT 16
#define IOVIRT_PCI_PF_ACS_HEADER_VERSION_MASK 0xf0000u /* Version. */
#define IOVIRT_PCI_PF_ACS_HEADER_NEXT_SHIFT 20
#define IOVIRT_PCI_PF_ACS_HEADER_NEXT_MASK 0xfff00000u /* Next capability; 0: none. */

#define IOVIRT_PCI_PF_ACS_CAPABILITY 0x16cu /* Nothing to control. */

/* ---- PCI configuration space: vf ------------------------------------------------------------ */

#define IOVIRT_PCI_VF_VENDOR_ID 0x0u /* Vendor; FFFFh of VFs. */

#define IOVIRT_PCI_VF_DEVICE_ID 0x2u /* Device; FFFFh of VFs. */

#define IOVIRT_PCI_VF_COMMAND 0x4u /* Command. */
#define IOVIRT_PCI_VF_COMMAND_BUS_MASTER_SHIFT 2
#define IOVIRT_PCI_VF_COMMAND_BUS_MASTER_MASK 0x4u /* DMA and messages are allowed. */

#define IOVIRT_PCI_VF_STATUS 0x6u /* Status. */
#define IOVIRT_PCI_VF_STATUS_CAPABILITIES_SHIFT 4
#define IOVIRT_PCI_VF_STATUS_CAPABILITIES_MASK 0x10u /* There is a list of capabilities. */

#define IOVIRT_PCI_VF_REVISION 0x8u /* Revision. */

#define IOVIRT_PCI_VF_CLASS_CODE 0x9u /* Interface. */
#define IOVIRT_PCI_VF_CLASS_CODE_VALUE_SHIFT 0
#define IOVIRT_PCI_VF_CLASS_CODE_VALUE_MASK 0xffu /* 0. */

#define IOVIRT_PCI_VF_SUBCLASS 0xau /* Subclass. */

#define IOVIRT_PCI_VF_BASE_CLASS 0xbu /* Base class. */

#define IOVIRT_PCI_VF_SUBSYSTEM_VENDOR 0x2cu /* Subsystem vendor. */

#define IOVIRT_PCI_VF_SUBSYSTEM_ID 0x2eu /* Subsystem. */

#define IOVIRT_PCI_VF_CAPABILITIES_POINTER 0x34u /* First capability. */

#define IOVIRT_PCI_VF_EXPRESS_HEADER 0x40u /* Capability. */
#define IOVIRT_PCI_VF_EXPRESS_HEADER_ID_SHIFT 0
#define IOVIRT_PCI_VF_EXPRESS_HEADER_ID_MASK 0xffu /* CapabilityId. */
#define IOVIRT_PCI_VF_EXPRESS_HEADER_NEXT_SHIFT 8
#define IOVIRT_PCI_VF_EXPRESS_HEADER_NEXT_MASK 0xff00u /* Next capability; 0: none. */

#define IOVIRT_PCI_VF_EXPRESS_CAPABILITIES 0x42u /* Kind of function. */
#define IOVIRT_PCI_VF_EXPRESS_CAPABILITIES_VERSION_SHIFT 0
#define IOVIRT_PCI_VF_EXPRESS_CAPABILITIES_VERSION_MASK 0xfu /* Of this structure. */
#define IOVIRT_PCI_VF_EXPRESS_CAPABILITIES_TYPE_SHIFT 4
/* 0 endpoint, 9 root complex integrated. */
#define IOVIRT_PCI_VF_EXPRESS_CAPABILITIES_TYPE_MASK 0xf0u

#define IOVIRT_PCI_VF_DEVICE_CAPABILITIES 0x44u /* What it can do. */
#define IOVIRT_PCI_VF_DEVICE_CAPABILITIES_MAX_PAYLOAD_SHIFT 0
#define IOVIRT_PCI_VF_DEVICE_CAPABILITIES_MAX_PAYLOAD_MASK 0x7u /* 128 bytes. */
#define IOVIRT_PCI_VF_DEVICE_CAPABILITIES_ROLE_BASED_ERRORS_SHIFT 15
#define IOVIRT_PCI_VF_DEVICE_CAPABILITIES_ROLE_BASED_ERRORS_MASK 0x8000u /* Always 1. */
#define IOVIRT_PCI_VF_DEVICE_CAPABILITIES_FLR_SHIFT 28
#define IOVIRT_PCI_VF_DEVICE_CAPABILITIES_FLR_MASK 0x10000000u /* Function level reset is there. */

#define IOVIRT_PCI_VF_DEVICE_CONTROL 0x48u /* Device control. */
#define IOVIRT_PCI_VF_DEVICE_CONTROL_FLR_SHIFT 15
#define IOVIRT_PCI_VF_DEVICE_CONTROL_FLR_MASK 0x8000u /* Function level reset; reads 0. */

#define IOVIRT_PCI_VF_DEVICE_STATUS 0x4au /* Device status: no errors, nothing pending. */

#define IOVIRT_PCI_VF_LINK_CAPABILITIES 0x4cu /* The link. */
#define IOVIRT_PCI_VF_LINK_CAPABILITIES_SPEED_SHIFT 0
#define IOVIRT_PCI_VF_LINK_CAPABILITIES_SPEED_MASK 0xfu /* 2.5 GT/s. */
#define IOVIRT_PCI_VF_LINK_CAPABILITIES_WIDTH_SHIFT 4
#define IOVIRT_PCI_VF_LINK_CAPABILITIES_WIDTH_MASK 0x3f0u /* One lane. */

#define IOVIRT_PCI_VF_LINK_STATUS 0x52u /* The link. */
#define IOVIRT_PCI_VF_LINK_STATUS_SPEED_SHIFT 0
#define IOVIRT_PCI_VF_LINK_STATUS_SPEED_MASK 0xfu /* 2.5 GT/s. */
#define IOVIRT_PCI_VF_LINK_STATUS_WIDTH_SHIFT 4
#define IOVIRT_PCI_VF_LINK_STATUS_WIDTH_MASK 0x3f0u /* One lane. */

#define IOVIRT_PCI_VF_DEVICE_CAPABILITIES_2 0x64u /* Time-out. */
#define IOVIRT_PCI_VF_DEVICE_CAPABILITIES_2_DISABLE_SHIFT 4
/* The completion time-out can be disabled. */
#define IOVIRT_PCI_VF_DEVICE_CAPABILITIES_2_DISABLE_MASK 0x10u

#define IOVIRT_PCI_VF_MSIX_HEADER 0x7cu /* Capability. */
#define IOVIRT_PCI_VF_MSIX_HEADER_ID_SHIFT 0
#define IOVIRT_PCI_VF_MSIX_HEADER_ID_MASK 0xffu /* CapabilityId. */
#define IOVIRT_PCI_VF_MSIX_HEADER_NEXT_SHIFT 8
#define IOVIRT_PCI_VF_MSIX_HEADER_NEXT_MASK 0xff00u /* Next capability; 0: none. */

#define IOVIRT_PCI_VF_MSIX_CONTROL 0x7eu /* Message control. */
#define IOVIRT_PCI_VF_MSIX_CONTROL_TABLE_SIZE_SHIFT 0
#define IOVIRT_PCI_VF_MSIX_CONTROL_TABLE_SIZE_MASK 0x7ffu /* Vectors less 1. */
#define IOVIRT_PCI_VF_MSIX_CONTROL_FUNCTION_MASK_SHIFT 14
#define IOVIRT_PCI_VF_MSIX_CONTROL_FUNCTION_MASK_MASK 0x4000u /* Masks all vectors. */
#define IOVIRT_PCI_VF_MSIX_CONTROL_ENABLE_SHIFT 15
/* Interrupts are messages; else a PF has its pin, a VF none. */
#define IOVIRT_PCI_VF_MSIX_CONTROL_ENABLE_MASK 0x8000u

#define IOVIRT_PCI_VF_MSIX_TABLE 0x80u /* Offset of the table, in BAR 0. */

#define IOVIRT_PCI_VF_MSIX_PBA 0x84u /* Offset of the pending bits, in BAR 0. */

#define IOVIRT_PCI_VF_VIRTIO_COMMON_HEADER 0x88u /* Capability. */
#define IOVIRT_PCI_VF_VIRTIO_COMMON_HEADER_ID_SHIFT 0
#define IOVIRT_PCI_VF_VIRTIO_COMMON_HEADER_ID_MASK 0xffu /* CapabilityId. */
#define IOVIRT_PCI_VF_VIRTIO_COMMON_HEADER_NEXT_SHIFT 8
#define IOVIRT_PCI_VF_VIRTIO_COMMON_HEADER_NEXT_MASK 0xff00u /* Next capability; 0: none. */

#define IOVIRT_PCI_VF_VIRTIO_COMMON_LENGTH 0x8au /* Bytes of this capability. */

#define IOVIRT_PCI_VF_VIRTIO_COMMON_TYPE 0x8bu /* VirtioStructure. */

#define IOVIRT_PCI_VF_VIRTIO_COMMON_BAR 0x8cu /* BAR. */
#define IOVIRT_PCI_VF_VIRTIO_COMMON_BAR_VALUE_SHIFT 0
#define IOVIRT_PCI_VF_VIRTIO_COMMON_BAR_VALUE_MASK 0xffu /* BAR. */

#define IOVIRT_PCI_VF_VIRTIO_COMMON_OFFSET 0x90u /* Offset in the BAR. */
#define IOVIRT_PCI_VF_VIRTIO_COMMON_OFFSET_VALUE_SHIFT 0
#define IOVIRT_PCI_VF_VIRTIO_COMMON_OFFSET_VALUE_MASK 0xffffffffu /* Offset in the BAR. */

#define IOVIRT_PCI_VF_VIRTIO_COMMON_BYTES 0x94u /* Bytes. */
#define IOVIRT_PCI_VF_VIRTIO_COMMON_BYTES_VALUE_SHIFT 0
#define IOVIRT_PCI_VF_VIRTIO_COMMON_BYTES_VALUE_MASK 0xffffffffu /* Bytes. */

#define IOVIRT_PCI_VF_VIRTIO_NOTIFY_HEADER 0x98u /* Capability. */
#define IOVIRT_PCI_VF_VIRTIO_NOTIFY_HEADER_ID_SHIFT 0
#define IOVIRT_PCI_VF_VIRTIO_NOTIFY_HEADER_ID_MASK 0xffu /* CapabilityId. */
#define IOVIRT_PCI_VF_VIRTIO_NOTIFY_HEADER_NEXT_SHIFT 8
#define IOVIRT_PCI_VF_VIRTIO_NOTIFY_HEADER_NEXT_MASK 0xff00u /* Next capability; 0: none. */

#define IOVIRT_PCI_VF_VIRTIO_NOTIFY_LENGTH 0x9au /* Bytes of this capability. */

#define IOVIRT_PCI_VF_VIRTIO_NOTIFY_TYPE 0x9bu /* VirtioStructure. */

#define IOVIRT_PCI_VF_VIRTIO_NOTIFY_BAR 0x9cu /* BAR. */
#define IOVIRT_PCI_VF_VIRTIO_NOTIFY_BAR_VALUE_SHIFT 0
#define IOVIRT_PCI_VF_VIRTIO_NOTIFY_BAR_VALUE_MASK 0xffu /* BAR. */

#define IOVIRT_PCI_VF_VIRTIO_NOTIFY_OFFSET 0xa0u /* Offset in the BAR. */
#define IOVIRT_PCI_VF_VIRTIO_NOTIFY_OFFSET_VALUE_SHIFT 0
#define IOVIRT_PCI_VF_VIRTIO_NOTIFY_OFFSET_VALUE_MASK 0xffffffffu /* Offset in the BAR. */

#define IOVIRT_PCI_VF_VIRTIO_NOTIFY_BYTES 0xa4u /* Bytes. */
#define IOVIRT_PCI_VF_VIRTIO_NOTIFY_BYTES_VALUE_SHIFT 0
#define IOVIRT_PCI_VF_VIRTIO_NOTIFY_BYTES_VALUE_MASK 0xffffffffu /* Bytes. */

#define IOVIRT_PCI_VF_VIRTIO_NOTIFY_MULTIPLIER 0xa8u /* Bytes per queue. */

#define IOVIRT_PCI_VF_VIRTIO_ISR_HEADER 0xacu /* Capability. */
#define IOVIRT_PCI_VF_VIRTIO_ISR_HEADER_ID_SHIFT 0
#define IOVIRT_PCI_VF_VIRTIO_ISR_HEADER_ID_MASK 0xffu /* CapabilityId. */
#define IOVIRT_PCI_VF_VIRTIO_ISR_HEADER_NEXT_SHIFT 8
#define IOVIRT_PCI_VF_VIRTIO_ISR_HEADER_NEXT_MASK 0xff00u /* Next capability; 0: none. */

#define IOVIRT_PCI_VF_VIRTIO_ISR_LENGTH 0xaeu /* Bytes of this capability. */

#define IOVIRT_PCI_VF_VIRTIO_ISR_TYPE 0xafu /* VirtioStructure. */

#define IOVIRT_PCI_VF_VIRTIO_ISR_BAR 0xb0u /* BAR. */
#define IOVIRT_PCI_VF_VIRTIO_ISR_BAR_VALUE_SHIFT 0
#define IOVIRT_PCI_VF_VIRTIO_ISR_BAR_VALUE_MASK 0xffu /* BAR. */

#define IOVIRT_PCI_VF_VIRTIO_ISR_OFFSET 0xb4u /* Offset in the BAR. */
#define IOVIRT_PCI_VF_VIRTIO_ISR_OFFSET_VALUE_SHIFT 0
#define IOVIRT_PCI_VF_VIRTIO_ISR_OFFSET_VALUE_MASK 0xffffffffu /* Offset in the BAR. */

#define IOVIRT_PCI_VF_VIRTIO_ISR_BYTES 0xb8u /* Bytes. */
#define IOVIRT_PCI_VF_VIRTIO_ISR_BYTES_VALUE_SHIFT 0
#define IOVIRT_PCI_VF_VIRTIO_ISR_BYTES_VALUE_MASK 0xffffffffu /* Bytes. */

#define IOVIRT_PCI_VF_VIRTIO_DEVICE_HEADER 0xbcu /* Capability. */
#define IOVIRT_PCI_VF_VIRTIO_DEVICE_HEADER_ID_SHIFT 0
#define IOVIRT_PCI_VF_VIRTIO_DEVICE_HEADER_ID_MASK 0xffu /* CapabilityId. */
#define IOVIRT_PCI_VF_VIRTIO_DEVICE_HEADER_NEXT_SHIFT 8
#define IOVIRT_PCI_VF_VIRTIO_DEVICE_HEADER_NEXT_MASK 0xff00u /* Next capability; 0: none. */

#define IOVIRT_PCI_VF_VIRTIO_DEVICE_LENGTH 0xbeu /* Bytes of this capability. */

#define IOVIRT_PCI_VF_VIRTIO_DEVICE_TYPE 0xbfu /* VirtioStructure. */

#define IOVIRT_PCI_VF_VIRTIO_DEVICE_BAR 0xc0u /* BAR. */
#define IOVIRT_PCI_VF_VIRTIO_DEVICE_BAR_VALUE_SHIFT 0
#define IOVIRT_PCI_VF_VIRTIO_DEVICE_BAR_VALUE_MASK 0xffu /* BAR. */

#define IOVIRT_PCI_VF_VIRTIO_DEVICE_OFFSET 0xc4u /* Offset in the BAR. */
#define IOVIRT_PCI_VF_VIRTIO_DEVICE_OFFSET_VALUE_SHIFT 0
#define IOVIRT_PCI_VF_VIRTIO_DEVICE_OFFSET_VALUE_MASK 0xffffffffu /* Offset in the BAR. */

#define IOVIRT_PCI_VF_VIRTIO_DEVICE_BYTES 0xc8u /* Bytes. */
#define IOVIRT_PCI_VF_VIRTIO_DEVICE_BYTES_VALUE_SHIFT 0
#define IOVIRT_PCI_VF_VIRTIO_DEVICE_BYTES_VALUE_MASK 0xffffffffu /* Bytes. */

#define IOVIRT_PCI_VF_VIRTIO_PCI_HEADER 0xccu /* Capability. */
#define IOVIRT_PCI_VF_VIRTIO_PCI_HEADER_ID_SHIFT 0
#define IOVIRT_PCI_VF_VIRTIO_PCI_HEADER_ID_MASK 0xffu /* CapabilityId. */
#define IOVIRT_PCI_VF_VIRTIO_PCI_HEADER_NEXT_SHIFT 8
#define IOVIRT_PCI_VF_VIRTIO_PCI_HEADER_NEXT_MASK 0xff00u /* Next capability; 0: none. */

#define IOVIRT_PCI_VF_VIRTIO_PCI_LENGTH 0xceu /* Bytes of this capability. */

#define IOVIRT_PCI_VF_VIRTIO_PCI_TYPE 0xcfu /* VirtioStructure. */

#define IOVIRT_PCI_VF_VIRTIO_PCI_BAR 0xd0u /* BAR. */
#define IOVIRT_PCI_VF_VIRTIO_PCI_BAR_VALUE_SHIFT 0
#define IOVIRT_PCI_VF_VIRTIO_PCI_BAR_VALUE_MASK 0xffu /* BAR. */

#define IOVIRT_PCI_VF_VIRTIO_PCI_OFFSET 0xd4u /* Offset in the BAR. */
#define IOVIRT_PCI_VF_VIRTIO_PCI_OFFSET_VALUE_SHIFT 0
#define IOVIRT_PCI_VF_VIRTIO_PCI_OFFSET_VALUE_MASK 0xffffffffu /* Offset in the BAR. */

#define IOVIRT_PCI_VF_VIRTIO_PCI_BYTES 0xd8u /* Bytes. */
#define IOVIRT_PCI_VF_VIRTIO_PCI_BYTES_VALUE_SHIFT 0
#define IOVIRT_PCI_VF_VIRTIO_PCI_BYTES_VALUE_MASK 0xffffffffu /* Bytes. */

#define IOVIRT_PCI_VF_VIRTIO_PCI_DATA 0xdcu /* Window on the BAR. */
#define IOVIRT_PCI_VF_VIRTIO_PCI_DATA_VALUE_SHIFT 0
/* What is at the offset, 1, 2 or 4 bytes. */
#define IOVIRT_PCI_VF_VIRTIO_PCI_DATA_VALUE_MASK 0xffffffffu

#define IOVIRT_PCI_VF_ARI_HEADER 0x100u /* Extended capability. */
#define IOVIRT_PCI_VF_ARI_HEADER_ID_SHIFT 0
#define IOVIRT_PCI_VF_ARI_HEADER_ID_MASK 0xffffu /* ExtendedId. */
#define IOVIRT_PCI_VF_ARI_HEADER_VERSION_SHIFT 16
#define IOVIRT_PCI_VF_ARI_HEADER_VERSION_MASK 0xf0000u /* Version. */
#define IOVIRT_PCI_VF_ARI_HEADER_NEXT_SHIFT 20
#define IOVIRT_PCI_VF_ARI_HEADER_NEXT_MASK 0xfff00000u /* Next capability; 0: none. */

#define IOVIRT_PCI_VF_ARI_CAPABILITY 0x104u /* Functions. */
#define IOVIRT_PCI_VF_ARI_CAPABILITY_NEXT_SHIFT 8
#define IOVIRT_PCI_VF_ARI_CAPABILITY_NEXT_MASK 0xff00u /* Next function; 0: none. */

#define IOVIRT_PCI_VF_ATS_HEADER 0x108u /* Extended capability. */
#define IOVIRT_PCI_VF_ATS_HEADER_ID_SHIFT 0
#define IOVIRT_PCI_VF_ATS_HEADER_ID_MASK 0xffffu /* ExtendedId. */
#define IOVIRT_PCI_VF_ATS_HEADER_VERSION_SHIFT 16
#define IOVIRT_PCI_VF_ATS_HEADER_VERSION_MASK 0xf0000u /* Version. */
#define IOVIRT_PCI_VF_ATS_HEADER_NEXT_SHIFT 20
#define IOVIRT_PCI_VF_ATS_HEADER_NEXT_MASK 0xfff00000u /* Next capability; 0: none. */

#define IOVIRT_PCI_VF_ATS_CAPABILITY 0x10cu /* What it can do. */
#define IOVIRT_PCI_VF_ATS_CAPABILITY_QUEUE_DEPTH_SHIFT 0
/* Invalidations taken at once; 0: see the PF. */
#define IOVIRT_PCI_VF_ATS_CAPABILITY_QUEUE_DEPTH_MASK 0x1fu
#define IOVIRT_PCI_VF_ATS_CAPABILITY_PAGE_ALIGNED_SHIFT 5
#define IOVIRT_PCI_VF_ATS_CAPABILITY_PAGE_ALIGNED_MASK 0x20u /* Asks for whole pages. */

#define IOVIRT_PCI_VF_ATS_CONTROL 0x10eu /* Control. */
#define IOVIRT_PCI_VF_ATS_CONTROL_ENABLE_SHIFT 15
#define IOVIRT_PCI_VF_ATS_CONTROL_ENABLE_MASK 0x8000u /* Ask for translations. */

#define IOVIRT_PCI_VF_ACS_HEADER 0x110u /* Extended capability. */
#define IOVIRT_PCI_VF_ACS_HEADER_ID_SHIFT 0
#define IOVIRT_PCI_VF_ACS_HEADER_ID_MASK 0xffffu /* ExtendedId. */
#define IOVIRT_PCI_VF_ACS_HEADER_VERSION_SHIFT 16
#define IOVIRT_PCI_VF_ACS_HEADER_VERSION_MASK 0xf0000u /* Version. */
#define IOVIRT_PCI_VF_ACS_HEADER_NEXT_SHIFT 20
#define IOVIRT_PCI_VF_ACS_HEADER_NEXT_MASK 0xfff00000u /* Next capability; 0: none. */

#define IOVIRT_PCI_VF_ACS_CAPABILITY 0x114u /* Nothing to control. */

/* ---- PCI configuration space: iommu --------------------------------------------------------- */

#define IOVIRT_PCI_IOMMU_VENDOR_ID 0x0u /* Vendor; FFFFh of VFs. */

#define IOVIRT_PCI_IOMMU_DEVICE_ID 0x2u /* Device; FFFFh of VFs. */

#define IOVIRT_PCI_IOMMU_COMMAND 0x4u /* Command. */
#define IOVIRT_PCI_IOMMU_COMMAND_BUS_MASTER_SHIFT 2
#define IOVIRT_PCI_IOMMU_COMMAND_BUS_MASTER_MASK 0x4u /* DMA and messages are allowed. */
#define IOVIRT_PCI_IOMMU_COMMAND_MEMORY_SHIFT 1
#define IOVIRT_PCI_IOMMU_COMMAND_MEMORY_MASK 0x2u /* BARs answer. */
#define IOVIRT_PCI_IOMMU_COMMAND_PARITY_SHIFT 6
#define IOVIRT_PCI_IOMMU_COMMAND_PARITY_MASK 0x40u /* Note parity errors; there are none. */
#define IOVIRT_PCI_IOMMU_COMMAND_SERR_SHIFT 8
#define IOVIRT_PCI_IOMMU_COMMAND_SERR_MASK 0x100u /* Report errors; there are none. */

#define IOVIRT_PCI_IOMMU_STATUS 0x6u /* Status. */
#define IOVIRT_PCI_IOMMU_STATUS_CAPABILITIES_SHIFT 4
#define IOVIRT_PCI_IOMMU_STATUS_CAPABILITIES_MASK 0x10u /* There is a list of capabilities. */

#define IOVIRT_PCI_IOMMU_REVISION 0x8u /* Revision. */

#define IOVIRT_PCI_IOMMU_CLASS_CODE 0x9u /* Interface. */
#define IOVIRT_PCI_IOMMU_CLASS_CODE_VALUE_SHIFT 0
#define IOVIRT_PCI_IOMMU_CLASS_CODE_VALUE_MASK 0xffu /* 0. */

#define IOVIRT_PCI_IOMMU_SUBCLASS 0xau /* Subclass. */

#define IOVIRT_PCI_IOMMU_BASE_CLASS 0xbu /* Base class. */

#define IOVIRT_PCI_IOMMU_CACHE_LINE 0xcu /* Cache line size. */
#define IOVIRT_PCI_IOMMU_CACHE_LINE_VALUE_SHIFT 0
#define IOVIRT_PCI_IOMMU_CACHE_LINE_VALUE_MASK 0xffu /* Kept for software. */

#define IOVIRT_PCI_IOMMU_BAR0 0x10u /* 0x1000 bytes, low half. */
#define IOVIRT_PCI_IOMMU_BAR0_IO_SHIFT 0
#define IOVIRT_PCI_IOMMU_BAR0_IO_MASK 0x1u /* 0: memory. */
#define IOVIRT_PCI_IOMMU_BAR0_TYPE_SHIFT 1
#define IOVIRT_PCI_IOMMU_BAR0_TYPE_MASK 0x6u /* 2: 64 bits. */
#define IOVIRT_PCI_IOMMU_BAR0_PREFETCHABLE_SHIFT 3
#define IOVIRT_PCI_IOMMU_BAR0_PREFETCHABLE_MASK 0x8u /* 0: reading has effects. */
#define IOVIRT_PCI_IOMMU_BAR0_BASE_SHIFT 12
#define IOVIRT_PCI_IOMMU_BAR0_BASE_MASK 0xfffff000u /* Address bits 31:12. */

#define IOVIRT_PCI_IOMMU_BAR0_HIGH 0x14u /* High half. */
#define IOVIRT_PCI_IOMMU_BAR0_HIGH_BASE_SHIFT 0
#define IOVIRT_PCI_IOMMU_BAR0_HIGH_BASE_MASK 0xffffffffu /* Address bits 63:32. */

#define IOVIRT_PCI_IOMMU_SUBSYSTEM_VENDOR 0x2cu /* Subsystem vendor. */

#define IOVIRT_PCI_IOMMU_SUBSYSTEM_ID 0x2eu /* Subsystem. */

#define IOVIRT_PCI_IOMMU_CAPABILITIES_POINTER 0x34u /* First capability. */

#define IOVIRT_PCI_IOMMU_INTERRUPT_LINE 0x3cu /* Interrupt line. */
#define IOVIRT_PCI_IOMMU_INTERRUPT_LINE_VALUE_SHIFT 0
#define IOVIRT_PCI_IOMMU_INTERRUPT_LINE_VALUE_MASK 0xffu /* Kept for software. */

#define IOVIRT_PCI_IOMMU_PM_HEADER 0x40u /* Capability. */
#define IOVIRT_PCI_IOMMU_PM_HEADER_ID_SHIFT 0
#define IOVIRT_PCI_IOMMU_PM_HEADER_ID_MASK 0xffu /* CapabilityId. */
#define IOVIRT_PCI_IOMMU_PM_HEADER_NEXT_SHIFT 8
#define IOVIRT_PCI_IOMMU_PM_HEADER_NEXT_MASK 0xff00u /* Next capability; 0: none. */

#define IOVIRT_PCI_IOMMU_PM_CAPABILITIES 0x42u /* Version 3, no D1, no D2, no PME. */

#define IOVIRT_PCI_IOMMU_PM_CONTROL 0x44u /* Power state. */
#define IOVIRT_PCI_IOMMU_PM_CONTROL_POWER_STATE_SHIFT 0
/* 0: D0, 3: D3hot; writes of 1 and 2 do nothing. */
#define IOVIRT_PCI_IOMMU_PM_CONTROL_POWER_STATE_MASK 0x3u
#define IOVIRT_PCI_IOMMU_PM_CONTROL_NO_SOFT_RESET_SHIFT 3
#define IOVIRT_PCI_IOMMU_PM_CONTROL_NO_SOFT_RESET_MASK 0x8u /* 1: D3hot to D0 keeps all state. */

#define IOVIRT_PCI_IOMMU_EXPRESS_HEADER 0x48u /* Capability. */
#define IOVIRT_PCI_IOMMU_EXPRESS_HEADER_ID_SHIFT 0
#define IOVIRT_PCI_IOMMU_EXPRESS_HEADER_ID_MASK 0xffu /* CapabilityId. */
#define IOVIRT_PCI_IOMMU_EXPRESS_HEADER_NEXT_SHIFT 8
#define IOVIRT_PCI_IOMMU_EXPRESS_HEADER_NEXT_MASK 0xff00u /* Next capability; 0: none. */

#define IOVIRT_PCI_IOMMU_EXPRESS_CAPABILITIES 0x4au /* Kind of function. */
#define IOVIRT_PCI_IOMMU_EXPRESS_CAPABILITIES_VERSION_SHIFT 0
#define IOVIRT_PCI_IOMMU_EXPRESS_CAPABILITIES_VERSION_MASK 0xfu /* Of this structure. */
#define IOVIRT_PCI_IOMMU_EXPRESS_CAPABILITIES_TYPE_SHIFT 4
/* 0 endpoint, 9 root complex integrated. */
#define IOVIRT_PCI_IOMMU_EXPRESS_CAPABILITIES_TYPE_MASK 0xf0u

#define IOVIRT_PCI_IOMMU_DEVICE_CAPABILITIES 0x4cu /* What it can do. */
#define IOVIRT_PCI_IOMMU_DEVICE_CAPABILITIES_MAX_PAYLOAD_SHIFT 0
#define IOVIRT_PCI_IOMMU_DEVICE_CAPABILITIES_MAX_PAYLOAD_MASK 0x7u /* 128 bytes. */
#define IOVIRT_PCI_IOMMU_DEVICE_CAPABILITIES_ROLE_BASED_ERRORS_SHIFT 15
#define IOVIRT_PCI_IOMMU_DEVICE_CAPABILITIES_ROLE_BASED_ERRORS_MASK 0x8000u /* Always 1. */
#define IOVIRT_PCI_IOMMU_DEVICE_CAPABILITIES_FLR_SHIFT 28
/* Function level reset is there. */
#define IOVIRT_PCI_IOMMU_DEVICE_CAPABILITIES_FLR_MASK 0x10000000u

#define IOVIRT_PCI_IOMMU_DEVICE_CONTROL 0x50u /* Device control. */
#define IOVIRT_PCI_IOMMU_DEVICE_CONTROL_CORRECTABLE_ENABLE_SHIFT 0
/* Report correctable errors; there are none. */
#define IOVIRT_PCI_IOMMU_DEVICE_CONTROL_CORRECTABLE_ENABLE_MASK 0x1u
#define IOVIRT_PCI_IOMMU_DEVICE_CONTROL_NONFATAL_ENABLE_SHIFT 1
/* Report non-fatal errors; there are none. */
#define IOVIRT_PCI_IOMMU_DEVICE_CONTROL_NONFATAL_ENABLE_MASK 0x2u
#define IOVIRT_PCI_IOMMU_DEVICE_CONTROL_FATAL_ENABLE_SHIFT 2
/* Report fatal errors; there are none. */
#define IOVIRT_PCI_IOMMU_DEVICE_CONTROL_FATAL_ENABLE_MASK 0x4u
#define IOVIRT_PCI_IOMMU_DEVICE_CONTROL_UNSUPPORTED_ENABLE_SHIFT 3
/* Report unsupported requests; there are none. */
#define IOVIRT_PCI_IOMMU_DEVICE_CONTROL_UNSUPPORTED_ENABLE_MASK 0x8u
#define IOVIRT_PCI_IOMMU_DEVICE_CONTROL_MAX_READ_REQUEST_SHIFT 12
/* Largest read, 128 B << n. */
#define IOVIRT_PCI_IOMMU_DEVICE_CONTROL_MAX_READ_REQUEST_MASK 0x7000u

#define IOVIRT_PCI_IOMMU_DEVICE_STATUS 0x52u /* Device status: no errors, nothing pending. */

#define IOVIRT_PCI_IOMMU_DEVICE_CAPABILITIES_2 0x6cu /* Time-out. */
#define IOVIRT_PCI_IOMMU_DEVICE_CAPABILITIES_2_DISABLE_SHIFT 4
/* The completion time-out can be disabled. */
#define IOVIRT_PCI_IOMMU_DEVICE_CAPABILITIES_2_DISABLE_MASK 0x10u

#define IOVIRT_PCI_IOMMU_DEVICE_CONTROL_2 0x70u /* Time-out. */
#define IOVIRT_PCI_IOMMU_DEVICE_CONTROL_2_DISABLE_SHIFT 4
/* Disable the completion time-out; there is none. */
#define IOVIRT_PCI_IOMMU_DEVICE_CONTROL_2_DISABLE_MASK 0x10u

#define IOVIRT_PCI_IOMMU_MSIX_HEADER 0x84u /* Capability. */
#define IOVIRT_PCI_IOMMU_MSIX_HEADER_ID_SHIFT 0
#define IOVIRT_PCI_IOMMU_MSIX_HEADER_ID_MASK 0xffu /* CapabilityId. */
#define IOVIRT_PCI_IOMMU_MSIX_HEADER_NEXT_SHIFT 8
#define IOVIRT_PCI_IOMMU_MSIX_HEADER_NEXT_MASK 0xff00u /* Next capability; 0: none. */

#define IOVIRT_PCI_IOMMU_MSIX_CONTROL 0x86u /* Message control. */
#define IOVIRT_PCI_IOMMU_MSIX_CONTROL_TABLE_SIZE_SHIFT 0
#define IOVIRT_PCI_IOMMU_MSIX_CONTROL_TABLE_SIZE_MASK 0x7ffu /* Vectors less 1. */
#define IOVIRT_PCI_IOMMU_MSIX_CONTROL_FUNCTION_MASK_SHIFT 14
#define IOVIRT_PCI_IOMMU_MSIX_CONTROL_FUNCTION_MASK_MASK 0x4000u /* Masks all vectors. */
#define IOVIRT_PCI_IOMMU_MSIX_CONTROL_ENABLE_SHIFT 15
/* Interrupts are messages; else a PF has its pin, a VF none. */
#define IOVIRT_PCI_IOMMU_MSIX_CONTROL_ENABLE_MASK 0x8000u

#define IOVIRT_PCI_IOMMU_MSIX_TABLE 0x88u /* Offset of the table, in BAR 0. */

#define IOVIRT_PCI_IOMMU_MSIX_PBA 0x8cu /* Offset of the pending bits, in BAR 0. */

/* ---- Virtio: common configuration ----------------------------------------------------------- */

#define IOVIRT_VIRTIO_MSI_NO_VECTOR 0xffffu

#define IOVIRT_VIRTIO_COMMON_DEVICE_FEATURE_SELECT 0x0u /* Which 32 device features to show. */

#define IOVIRT_VIRTIO_COMMON_DEVICE_FEATURE 0x4u /* Device features. */

#define IOVIRT_VIRTIO_COMMON_DRIVER_FEATURE_SELECT 0x8u /* Which 32 driver features to show. */

#define IOVIRT_VIRTIO_COMMON_DRIVER_FEATURE 0xcu /* Driver features. */

#define IOVIRT_VIRTIO_COMMON_CONFIG_MSIX_VECTOR 0x10u /* Vector of configuration changes. */

#define IOVIRT_VIRTIO_COMMON_NUM_QUEUES 0x12u /* Virtqueues. */

#define IOVIRT_VIRTIO_COMMON_DEVICE_STATUS 0x14u /* DeviceStatus; writing 0 resets. */

#define IOVIRT_VIRTIO_COMMON_CONFIG_GENERATION 0x15u /* Changes with the device configuration. */

#define IOVIRT_VIRTIO_COMMON_QUEUE_SELECT 0x16u /* Virtqueue that the fields below are about. */

#define IOVIRT_VIRTIO_COMMON_QUEUE_SIZE 0x18u /* Entries; 0 if there is no such queue. */

#define IOVIRT_VIRTIO_COMMON_QUEUE_MSIX_VECTOR 0x1au /* Vector of the queue. */

#define IOVIRT_VIRTIO_COMMON_QUEUE_ENABLE 0x1cu /* 1 enables; cannot be written to 0. */

#define IOVIRT_VIRTIO_COMMON_QUEUE_NOTIFY_OFF 0x1eu /* Notify address, in notify_off_multiplier. */

#define IOVIRT_VIRTIO_COMMON_QUEUE_DESC 0x20u /* Descriptor area. */

#define IOVIRT_VIRTIO_COMMON_QUEUE_DRIVER 0x28u /* Driver area: available ring. */

#define IOVIRT_VIRTIO_COMMON_QUEUE_DEVICE 0x30u /* Device area: used ring. */

#define IOVIRT_VIRTIO_COMMON_QUEUE_NOTIFY_DATA 0x38u /* Equal to the queue's number. */

#define IOVIRT_VIRTIO_COMMON_QUEUE_RESET 0x3au /* 1 resets the queue; reads 1 until that is done. */

/* ---- IOMMU: records ------------------------------------------------------------------------- */

/* Device context in base format, 32 bytes (capabilities.MSI_FLAT 0). */
struct iovirt_iommu_device_context_base {
    uint64_t word[4];
};
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_V_WORD 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_V_SHIFT 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_V_MASK 0x1ull /* valid */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_EN_ATS_WORD 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_EN_ATS_SHIFT 1
/* ATS translation requests, and translated requests */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_EN_ATS_MASK 0x2ull
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_EN_PRI_WORD 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_EN_PRI_SHIFT 2
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_EN_PRI_MASK 0x4ull /* page requests */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_T2GPA_WORD 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_T2GPA_SHIFT 3
/* ATS answers are guest physical addresses */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_T2GPA_MASK 0x8ull
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_DTF_WORD 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_DTF_SHIFT 4
/* faults are not reported, but those of the directory */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_DTF_MASK 0x10ull
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_PDTV_WORD 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_PDTV_SHIFT 5
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_PDTV_MASK 0x20ull /* fsc is pdtp */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_PRPR_WORD 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_PRPR_SHIFT 6
/* PASID in page request group responses */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_PRPR_MASK 0x40ull
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_GADE_WORD 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_GADE_SHIFT 7
/* second stage: A and D bits are set by hardware */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_GADE_MASK 0x80ull
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_SADE_WORD 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_SADE_SHIFT 8
/* first stage: A and D bits are set by hardware */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_SADE_MASK 0x100ull
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_DPE_WORD 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_DPE_SHIFT 9
/* requests without process_id have process_id 0 */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_DPE_MASK 0x200ull
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_SBE_WORD 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_SBE_SHIFT 10
/* first stage and process directory are big-endian */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_SBE_MASK 0x400ull
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_SXL_WORD 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_SXL_SHIFT 11
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_SXL_MASK 0x800ull /* first stage is Sv32 */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_CUSTOM_WORD 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_CUSTOM_SHIFT 24
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TC_CUSTOM_MASK 0xff000000ull
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_IOHGATP_PPN_WORD 1
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_IOHGATP_PPN_SHIFT 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_IOHGATP_PPN_MASK 0xfffffffffffull
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_IOHGATP_GSCID_WORD 1
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_IOHGATP_GSCID_SHIFT 44
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_IOHGATP_GSCID_MASK 0xffff00000000000ull
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_IOHGATP_MODE_WORD 1
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_IOHGATP_MODE_SHIFT 60
/* IohgatpMode; a plain integer, since software may store any encoding */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_IOHGATP_MODE_MASK 0xf000000000000000ull
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TA_PSCID_WORD 2
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TA_PSCID_SHIFT 12
/* address space of the first stage, if PDTV is 0 */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TA_PSCID_MASK 0xfffff000ull
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TA_RCID_WORD 2
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TA_RCID_SHIFT 40
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TA_RCID_MASK 0xfff0000000000ull /* QoS: resource control */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TA_MCID_WORD 2
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TA_MCID_SHIFT 52
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_TA_MCID_MASK 0xfff0000000000000ull /* QoS: monitoring */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_FSC_PPN_WORD 3
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_FSC_PPN_SHIFT 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_FSC_PPN_MASK 0xfffffffffffull
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_FSC_MODE_WORD 3
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_FSC_MODE_SHIFT 60
/* IoatpMode or PdtpMode */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_BASE_FSC_MODE_MASK 0xf000000000000000ull
static_assert(sizeof(struct iovirt_iommu_device_context_base) == 32, "size");

/* Device context in extended format, 64 bytes (capabilities.MSI_FLAT 1). */
struct iovirt_iommu_device_context {
    uint64_t word[8];
};
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_V_WORD 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_V_SHIFT 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_V_MASK 0x1ull /* valid */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_EN_ATS_WORD 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_EN_ATS_SHIFT 1
/* ATS translation requests, and translated requests */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_EN_ATS_MASK 0x2ull
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_EN_PRI_WORD 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_EN_PRI_SHIFT 2
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_EN_PRI_MASK 0x4ull /* page requests */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_T2GPA_WORD 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_T2GPA_SHIFT 3
/* ATS answers are guest physical addresses */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_T2GPA_MASK 0x8ull
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_DTF_WORD 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_DTF_SHIFT 4
/* faults are not reported, but those of the directory */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_DTF_MASK 0x10ull
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_PDTV_WORD 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_PDTV_SHIFT 5
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_PDTV_MASK 0x20ull /* fsc is pdtp */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_PRPR_WORD 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_PRPR_SHIFT 6
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_PRPR_MASK 0x40ull /* PASID in page request group responses */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_GADE_WORD 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_GADE_SHIFT 7
/* second stage: A and D bits are set by hardware */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_GADE_MASK 0x80ull
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_SADE_WORD 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_SADE_SHIFT 8
/* first stage: A and D bits are set by hardware */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_SADE_MASK 0x100ull
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_DPE_WORD 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_DPE_SHIFT 9
/* requests without process_id have process_id 0 */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_DPE_MASK 0x200ull
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_SBE_WORD 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_SBE_SHIFT 10
/* first stage and process directory are big-endian */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_SBE_MASK 0x400ull
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_SXL_WORD 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_SXL_SHIFT 11
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_SXL_MASK 0x800ull /* first stage is Sv32 */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_CUSTOM_WORD 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_CUSTOM_SHIFT 24
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TC_CUSTOM_MASK 0xff000000ull
#define IOVIRT_IOMMU_DEVICE_CONTEXT_IOHGATP_PPN_WORD 1
#define IOVIRT_IOMMU_DEVICE_CONTEXT_IOHGATP_PPN_SHIFT 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_IOHGATP_PPN_MASK 0xfffffffffffull
#define IOVIRT_IOMMU_DEVICE_CONTEXT_IOHGATP_GSCID_WORD 1
#define IOVIRT_IOMMU_DEVICE_CONTEXT_IOHGATP_GSCID_SHIFT 44
#define IOVIRT_IOMMU_DEVICE_CONTEXT_IOHGATP_GSCID_MASK 0xffff00000000000ull
#define IOVIRT_IOMMU_DEVICE_CONTEXT_IOHGATP_MODE_WORD 1
#define IOVIRT_IOMMU_DEVICE_CONTEXT_IOHGATP_MODE_SHIFT 60
/* IohgatpMode; a plain integer, since software may store any encoding */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_IOHGATP_MODE_MASK 0xf000000000000000ull
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TA_PSCID_WORD 2
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TA_PSCID_SHIFT 12
/* address space of the first stage, if PDTV is 0 */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TA_PSCID_MASK 0xfffff000ull
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TA_RCID_WORD 2
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TA_RCID_SHIFT 40
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TA_RCID_MASK 0xfff0000000000ull /* QoS: resource control */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TA_MCID_WORD 2
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TA_MCID_SHIFT 52
#define IOVIRT_IOMMU_DEVICE_CONTEXT_TA_MCID_MASK 0xfff0000000000000ull /* QoS: monitoring */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_FSC_PPN_WORD 3
#define IOVIRT_IOMMU_DEVICE_CONTEXT_FSC_PPN_SHIFT 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_FSC_PPN_MASK 0xfffffffffffull
#define IOVIRT_IOMMU_DEVICE_CONTEXT_FSC_MODE_WORD 3
#define IOVIRT_IOMMU_DEVICE_CONTEXT_FSC_MODE_SHIFT 60
#define IOVIRT_IOMMU_DEVICE_CONTEXT_FSC_MODE_MASK 0xf000000000000000ull /* IoatpMode or PdtpMode */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_MSIPTP_PPN_WORD 4
#define IOVIRT_IOMMU_DEVICE_CONTEXT_MSIPTP_PPN_SHIFT 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_MSIPTP_PPN_MASK 0xfffffffffffull
#define IOVIRT_IOMMU_DEVICE_CONTEXT_MSIPTP_MODE_WORD 4
#define IOVIRT_IOMMU_DEVICE_CONTEXT_MSIPTP_MODE_SHIFT 60
#define IOVIRT_IOMMU_DEVICE_CONTEXT_MSIPTP_MODE_MASK 0xf000000000000000ull /* MsiptpMode */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_MSI_ADDR_MASK_WORD 5
#define IOVIRT_IOMMU_DEVICE_CONTEXT_MSI_ADDR_MASK_SHIFT 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_MSI_ADDR_MASK_MASK 0xffffffffffffffffull /* 51:0 used */
#define IOVIRT_IOMMU_DEVICE_CONTEXT_MSI_ADDR_PATTERN_WORD 6
#define IOVIRT_IOMMU_DEVICE_CONTEXT_MSI_ADDR_PATTERN_SHIFT 0
#define IOVIRT_IOMMU_DEVICE_CONTEXT_MSI_ADDR_PATTERN_MASK 0xffffffffffffffffull /* 51:0 used */
static_assert(sizeof(struct iovirt_iommu_device_context) == 64, "size");

/* Process context, 16 bytes. */
struct iovirt_iommu_process_context {
    uint64_t word[2];
};
#define IOVIRT_IOMMU_PROCESS_CONTEXT_TA_V_WORD 0
#define IOVIRT_IOMMU_PROCESS_CONTEXT_TA_V_SHIFT 0
#define IOVIRT_IOMMU_PROCESS_CONTEXT_TA_V_MASK 0x1ull /* valid */
#define IOVIRT_IOMMU_PROCESS_CONTEXT_TA_ENS_WORD 0
#define IOVIRT_IOMMU_PROCESS_CONTEXT_TA_ENS_SHIFT 1
#define IOVIRT_IOMMU_PROCESS_CONTEXT_TA_ENS_MASK 0x2ull /* supervisor requests are allowed */
#define IOVIRT_IOMMU_PROCESS_CONTEXT_TA_SUM_WORD 0
#define IOVIRT_IOMMU_PROCESS_CONTEXT_TA_SUM_SHIFT 2
#define IOVIRT_IOMMU_PROCESS_CONTEXT_TA_SUM_MASK 0x4ull /* supervisor may access user pages */
#define IOVIRT_IOMMU_PROCESS_CONTEXT_TA_PSCID_WORD 0
#define IOVIRT_IOMMU_PROCESS_CONTEXT_TA_PSCID_SHIFT 12
/* address space of the first stage */
#define IOVIRT_IOMMU_PROCESS_CONTEXT_TA_PSCID_MASK 0xfffff000ull
#define IOVIRT_IOMMU_PROCESS_CONTEXT_FSC_PPN_WORD 1
#define IOVIRT_IOMMU_PROCESS_CONTEXT_FSC_PPN_SHIFT 0
#define IOVIRT_IOMMU_PROCESS_CONTEXT_FSC_PPN_MASK 0xfffffffffffull
#define IOVIRT_IOMMU_PROCESS_CONTEXT_FSC_MODE_WORD 1
#define IOVIRT_IOMMU_PROCESS_CONTEXT_FSC_MODE_SHIFT 60
#define IOVIRT_IOMMU_PROCESS_CONTEXT_FSC_MODE_MASK 0xf000000000000000ull /* IoatpMode or PdtpMode */
static_assert(sizeof(struct iovirt_iommu_process_context) == 16, "size");

/* Non-leaf entry of the device and process directories. */
struct iovirt_iommu_non_leaf_entry {
    uint64_t word[1];
};
#define IOVIRT_IOMMU_NON_LEAF_ENTRY_V_WORD 0
#define IOVIRT_IOMMU_NON_LEAF_ENTRY_V_SHIFT 0
#define IOVIRT_IOMMU_NON_LEAF_ENTRY_V_MASK 0x1ull /* valid */
#define IOVIRT_IOMMU_NON_LEAF_ENTRY_PPN_WORD 0
#define IOVIRT_IOMMU_NON_LEAF_ENTRY_PPN_SHIFT 10
#define IOVIRT_IOMMU_NON_LEAF_ENTRY_PPN_MASK 0x3ffffffffffc00ull /* page of the next level */
static_assert(sizeof(struct iovirt_iommu_non_leaf_entry) == 8, "size");

/* Page-table entry of Sv39/48/57 and their x4 second stages. */
struct iovirt_iommu_pte {
    uint64_t word[1];
};
#define IOVIRT_IOMMU_PTE_V_WORD 0
#define IOVIRT_IOMMU_PTE_V_SHIFT 0
#define IOVIRT_IOMMU_PTE_V_MASK 0x1ull /* valid */
#define IOVIRT_IOMMU_PTE_R_WORD 0
#define IOVIRT_IOMMU_PTE_R_SHIFT 1
#define IOVIRT_IOMMU_PTE_R_MASK 0x2ull /* readable */
#define IOVIRT_IOMMU_PTE_W_WORD 0
#define IOVIRT_IOMMU_PTE_W_SHIFT 2
#define IOVIRT_IOMMU_PTE_W_MASK 0x4ull /* writable */
#define IOVIRT_IOMMU_PTE_X_WORD 0
#define IOVIRT_IOMMU_PTE_X_SHIFT 3
#define IOVIRT_IOMMU_PTE_X_MASK 0x8ull /* executable */
#define IOVIRT_IOMMU_PTE_U_WORD 0
#define IOVIRT_IOMMU_PTE_U_SHIFT 4
#define IOVIRT_IOMMU_PTE_U_MASK 0x10ull /* user */
#define IOVIRT_IOMMU_PTE_G_WORD 0
#define IOVIRT_IOMMU_PTE_G_SHIFT 5
#define IOVIRT_IOMMU_PTE_G_MASK 0x20ull /* global */
#define IOVIRT_IOMMU_PTE_A_WORD 0
#define IOVIRT_IOMMU_PTE_A_SHIFT 6
#define IOVIRT_IOMMU_PTE_A_MASK 0x40ull /* accessed */
#define IOVIRT_IOMMU_PTE_D_WORD 0
#define IOVIRT_IOMMU_PTE_D_SHIFT 7
#define IOVIRT_IOMMU_PTE_D_MASK 0x80ull /* dirty */
#define IOVIRT_IOMMU_PTE_RSW_WORD 0
#define IOVIRT_IOMMU_PTE_RSW_SHIFT 8
#define IOVIRT_IOMMU_PTE_RSW_MASK 0x300ull /* for software */
#define IOVIRT_IOMMU_PTE_PPN_WORD 0
#define IOVIRT_IOMMU_PTE_PPN_SHIFT 10
#define IOVIRT_IOMMU_PTE_PPN_MASK 0x3ffffffffffc00ull /* page, or page of the next level */
#define IOVIRT_IOMMU_PTE_RSW2_WORD 0
#define IOVIRT_IOMMU_PTE_RSW2_SHIFT 59
/* 60:59, for software with Svrsw60t59b, else reserved */
#define IOVIRT_IOMMU_PTE_RSW2_MASK 0x1800000000000000ull
#define IOVIRT_IOMMU_PTE_PBMT_WORD 0
#define IOVIRT_IOMMU_PTE_PBMT_SHIFT 61
#define IOVIRT_IOMMU_PTE_PBMT_MASK 0x6000000000000000ull /* memory type, with Svpbmt */
#define IOVIRT_IOMMU_PTE_N_WORD 0
#define IOVIRT_IOMMU_PTE_N_SHIFT 63
#define IOVIRT_IOMMU_PTE_N_MASK 0x8000000000000000ull /* NAPOT: 64 KiB */
static_assert(sizeof(struct iovirt_iommu_pte) == 8, "size");

/* First doubleword of an MSI page-table entry in basic-translate mode (M=3). */
struct iovirt_iommu_msi_pte {
    uint64_t word[1];
};
#define IOVIRT_IOMMU_MSI_PTE_V_WORD 0
#define IOVIRT_IOMMU_MSI_PTE_V_SHIFT 0
#define IOVIRT_IOMMU_MSI_PTE_V_MASK 0x1ull /* valid */
#define IOVIRT_IOMMU_MSI_PTE_M_WORD 0
#define IOVIRT_IOMMU_MSI_PTE_M_SHIFT 1
#define IOVIRT_IOMMU_MSI_PTE_M_MASK 0x6ull /* 3 */
#define IOVIRT_IOMMU_MSI_PTE_PPN_WORD 0
#define IOVIRT_IOMMU_MSI_PTE_PPN_SHIFT 10
#define IOVIRT_IOMMU_MSI_PTE_PPN_MASK 0x3ffffffffffc00ull /* page of the interrupt file */
#define IOVIRT_IOMMU_MSI_PTE_C_WORD 0
#define IOVIRT_IOMMU_MSI_PTE_C_SHIFT 63
#define IOVIRT_IOMMU_MSI_PTE_C_MASK 0x8000000000000000ull /* custom */
static_assert(sizeof(struct iovirt_iommu_msi_pte) == 8, "size");

/* First doubleword of an MSI page-table entry in MRIF mode (M=1; AIA, 9.5.2). */
struct iovirt_iommu_msi_pte_mrif {
    uint64_t word[1];
};
#define IOVIRT_IOMMU_MSI_PTE_MRIF_V_WORD 0
#define IOVIRT_IOMMU_MSI_PTE_MRIF_V_SHIFT 0
#define IOVIRT_IOMMU_MSI_PTE_MRIF_V_MASK 0x1ull /* valid */
#define IOVIRT_IOMMU_MSI_PTE_MRIF_M_WORD 0
#define IOVIRT_IOMMU_MSI_PTE_MRIF_M_SHIFT 1
#define IOVIRT_IOMMU_MSI_PTE_MRIF_M_MASK 0x6ull /* 1 */
#define IOVIRT_IOMMU_MSI_PTE_MRIF_ADDRESS_WORD 0
#define IOVIRT_IOMMU_MSI_PTE_MRIF_ADDRESS_SHIFT 7
#define IOVIRT_IOMMU_MSI_PTE_MRIF_ADDRESS_MASK 0x3fffffffffff80ull /* of the MRIF, bits 55:9 */
#define IOVIRT_IOMMU_MSI_PTE_MRIF_C_WORD 0
#define IOVIRT_IOMMU_MSI_PTE_MRIF_C_SHIFT 63
#define IOVIRT_IOMMU_MSI_PTE_MRIF_C_MASK 0x8000000000000000ull /* custom */
static_assert(sizeof(struct iovirt_iommu_msi_pte_mrif) == 8, "size");

/* Second doubleword of an MSI page-table entry in MRIF mode. */
struct iovirt_iommu_msi_pte_notice {
    uint64_t word[1];
};
#define IOVIRT_IOMMU_MSI_PTE_NOTICE_NID_WORD 0
#define IOVIRT_IOMMU_MSI_PTE_NOTICE_NID_SHIFT 0
#define IOVIRT_IOMMU_MSI_PTE_NOTICE_NID_MASK 0x3ffull /* notice identity, bits 9:0 */
#define IOVIRT_IOMMU_MSI_PTE_NOTICE_PPN_WORD 0
#define IOVIRT_IOMMU_MSI_PTE_NOTICE_PPN_SHIFT 10
#define IOVIRT_IOMMU_MSI_PTE_NOTICE_PPN_MASK 0x3ffffffffffc00ull /* of the notice MSI */
#define IOVIRT_IOMMU_MSI_PTE_NOTICE_NID_HIGH_WORD 0
#define IOVIRT_IOMMU_MSI_PTE_NOTICE_NID_HIGH_SHIFT 60
/* notice identity, bit 10 */
#define IOVIRT_IOMMU_MSI_PTE_NOTICE_NID_HIGH_MASK 0x1000000000000000ull
static_assert(sizeof(struct iovirt_iommu_msi_pte_notice) == 8, "size");

/* What all 16-byte commands share. */
struct iovirt_iommu_command {
    uint64_t word[2];
};
#define IOVIRT_IOMMU_COMMAND_OPCODE_WORD 0
#define IOVIRT_IOMMU_COMMAND_OPCODE_SHIFT 0
#define IOVIRT_IOMMU_COMMAND_OPCODE_MASK 0x7full
#define IOVIRT_IOMMU_COMMAND_FUNC3_WORD 0
#define IOVIRT_IOMMU_COMMAND_FUNC3_SHIFT 7
#define IOVIRT_IOMMU_COMMAND_FUNC3_MASK 0x380ull
#define IOVIRT_IOMMU_COMMAND_OPERANDS_WORD 0
#define IOVIRT_IOMMU_COMMAND_OPERANDS_SHIFT 10
#define IOVIRT_IOMMU_COMMAND_OPERANDS_MASK 0xfffffffffffffc00ull
#define IOVIRT_IOMMU_COMMAND_OPERANDS2_WORD 1
#define IOVIRT_IOMMU_COMMAND_OPERANDS2_SHIFT 0
#define IOVIRT_IOMMU_COMMAND_OPERANDS2_MASK 0xffffffffffffffffull
static_assert(sizeof(struct iovirt_iommu_command) == 16, "size");

/* IOTINVAL.VMA and IOTINVAL.GVMA. */
struct iovirt_iommu_iotinval {
    uint64_t word[2];
};
#define IOVIRT_IOMMU_IOTINVAL_OPCODE_WORD 0
#define IOVIRT_IOMMU_IOTINVAL_OPCODE_SHIFT 0
#define IOVIRT_IOMMU_IOTINVAL_OPCODE_MASK 0x7full
#define IOVIRT_IOMMU_IOTINVAL_FUNC3_WORD 0
#define IOVIRT_IOMMU_IOTINVAL_FUNC3_SHIFT 7
#define IOVIRT_IOMMU_IOTINVAL_FUNC3_MASK 0x380ull
#define IOVIRT_IOMMU_IOTINVAL_AV_WORD 0
#define IOVIRT_IOMMU_IOTINVAL_AV_SHIFT 10
#define IOVIRT_IOMMU_IOTINVAL_AV_MASK 0x400ull /* ADDR is valid */
#define IOVIRT_IOMMU_IOTINVAL_PSCID_WORD 0
#define IOVIRT_IOMMU_IOTINVAL_PSCID_SHIFT 12
#define IOVIRT_IOMMU_IOTINVAL_PSCID_MASK 0xfffff000ull
#define IOVIRT_IOMMU_IOTINVAL_PSCV_WORD 0
#define IOVIRT_IOMMU_IOTINVAL_PSCV_SHIFT 32
#define IOVIRT_IOMMU_IOTINVAL_PSCV_MASK 0x100000000ull /* PSCID is valid */
#define IOVIRT_IOMMU_IOTINVAL_GV_WORD 0
#define IOVIRT_IOMMU_IOTINVAL_GV_SHIFT 33
#define IOVIRT_IOMMU_IOTINVAL_GV_MASK 0x200000000ull /* GSCID is valid */
#define IOVIRT_IOMMU_IOTINVAL_NL_WORD 0
#define IOVIRT_IOMMU_IOTINVAL_NL_SHIFT 34
#define IOVIRT_IOMMU_IOTINVAL_NL_MASK 0x400000000ull /* non-leaf entries as well */
#define IOVIRT_IOMMU_IOTINVAL_GSCID_WORD 0
#define IOVIRT_IOMMU_IOTINVAL_GSCID_SHIFT 44
#define IOVIRT_IOMMU_IOTINVAL_GSCID_MASK 0xffff00000000000ull
#define IOVIRT_IOMMU_IOTINVAL_S_WORD 1
#define IOVIRT_IOMMU_IOTINVAL_S_SHIFT 9
#define IOVIRT_IOMMU_IOTINVAL_S_MASK 0x200ull /* ADDR is a range, NAPOT */
#define IOVIRT_IOMMU_IOTINVAL_ADDR_WORD 1
#define IOVIRT_IOMMU_IOTINVAL_ADDR_SHIFT 10
#define IOVIRT_IOMMU_IOTINVAL_ADDR_MASK 0x3ffffffffffffc00ull /* ADDR[63:12] */
static_assert(sizeof(struct iovirt_iommu_iotinval) == 16, "size");

/* IOFENCE.C. */
struct iovirt_iommu_iofence {
    uint64_t word[2];
};
#define IOVIRT_IOMMU_IOFENCE_OPCODE_WORD 0
#define IOVIRT_IOMMU_IOFENCE_OPCODE_SHIFT 0
#define IOVIRT_IOMMU_IOFENCE_OPCODE_MASK 0x7full
#define IOVIRT_IOMMU_IOFENCE_FUNC3_WORD 0
#define IOVIRT_IOMMU_IOFENCE_FUNC3_SHIFT 7
#define IOVIRT_IOMMU_IOFENCE_FUNC3_MASK 0x380ull
#define IOVIRT_IOMMU_IOFENCE_AV_WORD 0
#define IOVIRT_IOMMU_IOFENCE_AV_SHIFT 10
#define IOVIRT_IOMMU_IOFENCE_AV_MASK 0x400ull /* store DATA at ADDR */
#define IOVIRT_IOMMU_IOFENCE_WSI_WORD 0
#define IOVIRT_IOMMU_IOFENCE_WSI_SHIFT 11
#define IOVIRT_IOMMU_IOFENCE_WSI_MASK 0x800ull /* raise fence_w_ip */
#define IOVIRT_IOMMU_IOFENCE_PR_WORD 0
#define IOVIRT_IOMMU_IOFENCE_PR_SHIFT 12
#define IOVIRT_IOMMU_IOFENCE_PR_MASK 0x1000ull /* earlier reads are over */
#define IOVIRT_IOMMU_IOFENCE_PW_WORD 0
#define IOVIRT_IOMMU_IOFENCE_PW_SHIFT 13
#define IOVIRT_IOMMU_IOFENCE_PW_MASK 0x2000ull /* earlier writes are visible */
#define IOVIRT_IOMMU_IOFENCE_DATA_WORD 0
#define IOVIRT_IOMMU_IOFENCE_DATA_SHIFT 32
#define IOVIRT_IOMMU_IOFENCE_DATA_MASK 0xffffffff00000000ull
#define IOVIRT_IOMMU_IOFENCE_ADDR_WORD 1
#define IOVIRT_IOMMU_IOFENCE_ADDR_SHIFT 0
#define IOVIRT_IOMMU_IOFENCE_ADDR_MASK 0x3fffffffffffffffull /* ADDR[63:2] */
static_assert(sizeof(struct iovirt_iommu_iofence) == 16, "size");

/* IODIR.INVAL_DDT and IODIR.INVAL_PDT. */
struct iovirt_iommu_iodir {
    uint64_t word[2];
};
#define IOVIRT_IOMMU_IODIR_OPCODE_WORD 0
#define IOVIRT_IOMMU_IODIR_OPCODE_SHIFT 0
#define IOVIRT_IOMMU_IODIR_OPCODE_MASK 0x7full
#define IOVIRT_IOMMU_IODIR_FUNC3_WORD 0
#define IOVIRT_IOMMU_IODIR_FUNC3_SHIFT 7
#define IOVIRT_IOMMU_IODIR_FUNC3_MASK 0x380ull
#define IOVIRT_IOMMU_IODIR_PID_WORD 0
#define IOVIRT_IOMMU_IODIR_PID_SHIFT 12
#define IOVIRT_IOMMU_IODIR_PID_MASK 0xfffff000ull
#define IOVIRT_IOMMU_IODIR_DV_WORD 0
#define IOVIRT_IOMMU_IODIR_DV_SHIFT 33
#define IOVIRT_IOMMU_IODIR_DV_MASK 0x200000000ull /* DID is valid */
#define IOVIRT_IOMMU_IODIR_DID_WORD 0
#define IOVIRT_IOMMU_IODIR_DID_SHIFT 40
#define IOVIRT_IOMMU_IODIR_DID_MASK 0xffffff0000000000ull
static_assert(sizeof(struct iovirt_iommu_iodir) == 16, "size");

/* ATS.INVAL and ATS.PRGR. */
struct iovirt_iommu_ats_command {
    uint64_t word[2];
};
#define IOVIRT_IOMMU_ATS_COMMAND_OPCODE_WORD 0
#define IOVIRT_IOMMU_ATS_COMMAND_OPCODE_SHIFT 0
#define IOVIRT_IOMMU_ATS_COMMAND_OPCODE_MASK 0x7full
#define IOVIRT_IOMMU_ATS_COMMAND_FUNC3_WORD 0
#define IOVIRT_IOMMU_ATS_COMMAND_FUNC3_SHIFT 7
#define IOVIRT_IOMMU_ATS_COMMAND_FUNC3_MASK 0x380ull
#define IOVIRT_IOMMU_ATS_COMMAND_PID_WORD 0
#define IOVIRT_IOMMU_ATS_COMMAND_PID_SHIFT 12
#define IOVIRT_IOMMU_ATS_COMMAND_PID_MASK 0xfffff000ull /* PASID */
#define IOVIRT_IOMMU_ATS_COMMAND_PV_WORD 0
#define IOVIRT_IOMMU_ATS_COMMAND_PV_SHIFT 32
#define IOVIRT_IOMMU_ATS_COMMAND_PV_MASK 0x100000000ull /* PID is valid */
#define IOVIRT_IOMMU_ATS_COMMAND_DSV_WORD 0
#define IOVIRT_IOMMU_ATS_COMMAND_DSV_SHIFT 33
#define IOVIRT_IOMMU_ATS_COMMAND_DSV_MASK 0x200000000ull /* DSEG is valid */
#define IOVIRT_IOMMU_ATS_COMMAND_RID_WORD 0
#define IOVIRT_IOMMU_ATS_COMMAND_RID_SHIFT 40
#define IOVIRT_IOMMU_ATS_COMMAND_RID_MASK 0xffff0000000000ull /* requester */
#define IOVIRT_IOMMU_ATS_COMMAND_DSEG_WORD 0
#define IOVIRT_IOMMU_ATS_COMMAND_DSEG_SHIFT 56
#define IOVIRT_IOMMU_ATS_COMMAND_DSEG_MASK 0xff00000000000000ull /* segment */
#define IOVIRT_IOMMU_ATS_COMMAND_PAYLOAD_WORD 1
#define IOVIRT_IOMMU_ATS_COMMAND_PAYLOAD_SHIFT 0
/* InvalidationPayload or GroupResponsePayload */
#define IOVIRT_IOMMU_ATS_COMMAND_PAYLOAD_MASK 0xffffffffffffffffull
static_assert(sizeof(struct iovirt_iommu_ats_command) == 16, "size");

/* PAYLOAD of ATS.INVAL (PCIe Invalidate Request Message body). */
struct iovirt_iommu_invalidation_payload {
    uint64_t word[1];
};
#define IOVIRT_IOMMU_INVALIDATION_PAYLOAD_G_WORD 0
#define IOVIRT_IOMMU_INVALIDATION_PAYLOAD_G_SHIFT 0
#define IOVIRT_IOMMU_INVALIDATION_PAYLOAD_G_MASK 0x1ull /* in all address spaces */
#define IOVIRT_IOMMU_INVALIDATION_PAYLOAD_S_WORD 0
#define IOVIRT_IOMMU_INVALIDATION_PAYLOAD_S_SHIFT 11
#define IOVIRT_IOMMU_INVALIDATION_PAYLOAD_S_MASK 0x800ull /* the range is more than a page */
#define IOVIRT_IOMMU_INVALIDATION_PAYLOAD_ADDRESS_WORD 0
#define IOVIRT_IOMMU_INVALIDATION_PAYLOAD_ADDRESS_SHIFT 12
#define IOVIRT_IOMMU_INVALIDATION_PAYLOAD_ADDRESS_MASK 0xfffffffffffff000ull
static_assert(sizeof(struct iovirt_iommu_invalidation_payload) == 8, "size");

/* PAYLOAD of ATS.PRGR (PCIe PRG Response Message). */
struct iovirt_iommu_group_response_payload {
    uint64_t word[1];
};
#define IOVIRT_IOMMU_GROUP_RESPONSE_PAYLOAD_INDEX_WORD 0
#define IOVIRT_IOMMU_GROUP_RESPONSE_PAYLOAD_INDEX_SHIFT 32
#define IOVIRT_IOMMU_GROUP_RESPONSE_PAYLOAD_INDEX_MASK 0x1ff00000000ull /* group */
#define IOVIRT_IOMMU_GROUP_RESPONSE_PAYLOAD_CODE_WORD 0
#define IOVIRT_IOMMU_GROUP_RESPONSE_PAYLOAD_CODE_SHIFT 44
#define IOVIRT_IOMMU_GROUP_RESPONSE_PAYLOAD_CODE_MASK 0xf00000000000ull /* PageResponse */
#define IOVIRT_IOMMU_GROUP_RESPONSE_PAYLOAD_DESTINATION_WORD 0
#define IOVIRT_IOMMU_GROUP_RESPONSE_PAYLOAD_DESTINATION_SHIFT 48
#define IOVIRT_IOMMU_GROUP_RESPONSE_PAYLOAD_DESTINATION_MASK 0xffff000000000000ull /* requester */
static_assert(sizeof(struct iovirt_iommu_group_response_payload) == 8, "size");

/* One fault-queue entry, 32 bytes. */
struct iovirt_iommu_fault_record {
    uint64_t word[4];
};
#define IOVIRT_IOMMU_FAULT_RECORD_CAUSE_WORD 0
#define IOVIRT_IOMMU_FAULT_RECORD_CAUSE_SHIFT 0
#define IOVIRT_IOMMU_FAULT_RECORD_CAUSE_MASK 0xfffull /* Cause */
#define IOVIRT_IOMMU_FAULT_RECORD_PID_WORD 0
#define IOVIRT_IOMMU_FAULT_RECORD_PID_SHIFT 12
#define IOVIRT_IOMMU_FAULT_RECORD_PID_MASK 0xfffff000ull /* process_id */
#define IOVIRT_IOMMU_FAULT_RECORD_PV_WORD 0
#define IOVIRT_IOMMU_FAULT_RECORD_PV_SHIFT 32
#define IOVIRT_IOMMU_FAULT_RECORD_PV_MASK 0x100000000ull /* PID is valid */
#define IOVIRT_IOMMU_FAULT_RECORD_PRIV_WORD 0
#define IOVIRT_IOMMU_FAULT_RECORD_PRIV_SHIFT 33
#define IOVIRT_IOMMU_FAULT_RECORD_PRIV_MASK 0x200000000ull /* supervisor request */
#define IOVIRT_IOMMU_FAULT_RECORD_TTYP_WORD 0
#define IOVIRT_IOMMU_FAULT_RECORD_TTYP_SHIFT 34
#define IOVIRT_IOMMU_FAULT_RECORD_TTYP_MASK 0xfc00000000ull /* Ttyp */
#define IOVIRT_IOMMU_FAULT_RECORD_DID_WORD 0
#define IOVIRT_IOMMU_FAULT_RECORD_DID_SHIFT 40
#define IOVIRT_IOMMU_FAULT_RECORD_DID_MASK 0xffffff0000000000ull /* device_id */
#define IOVIRT_IOMMU_FAULT_RECORD_CUSTOM_WORD 1
#define IOVIRT_IOMMU_FAULT_RECORD_CUSTOM_SHIFT 0
#define IOVIRT_IOMMU_FAULT_RECORD_CUSTOM_MASK 0xffffffffull
#define IOVIRT_IOMMU_FAULT_RECORD_IOTVAL_WORD 2
#define IOVIRT_IOMMU_FAULT_RECORD_IOTVAL_SHIFT 0
/* address of the request, or code of the message */
#define IOVIRT_IOMMU_FAULT_RECORD_IOTVAL_MASK 0xffffffffffffffffull
#define IOVIRT_IOMMU_FAULT_RECORD_IOTVAL2_WORD 3
#define IOVIRT_IOMMU_FAULT_RECORD_IOTVAL2_SHIFT 0
/* guest physical address of a guest page fault; bits 1:0 say how it was implicit */
#define IOVIRT_IOMMU_FAULT_RECORD_IOTVAL2_MASK 0xffffffffffffffffull
static_assert(sizeof(struct iovirt_iommu_fault_record) == 32, "size");

/* One page-request-queue entry, 16 bytes. */
struct iovirt_iommu_page_request_record {
    uint64_t word[2];
};
#define IOVIRT_IOMMU_PAGE_REQUEST_RECORD_PID_WORD 0
#define IOVIRT_IOMMU_PAGE_REQUEST_RECORD_PID_SHIFT 12
#define IOVIRT_IOMMU_PAGE_REQUEST_RECORD_PID_MASK 0xfffff000ull /* PASID */
#define IOVIRT_IOMMU_PAGE_REQUEST_RECORD_PV_WORD 0
#define IOVIRT_IOMMU_PAGE_REQUEST_RECORD_PV_SHIFT 32
#define IOVIRT_IOMMU_PAGE_REQUEST_RECORD_PV_MASK 0x100000000ull /* PID is valid */
#define IOVIRT_IOMMU_PAGE_REQUEST_RECORD_PRIV_WORD 0
#define IOVIRT_IOMMU_PAGE_REQUEST_RECORD_PRIV_SHIFT 33
#define IOVIRT_IOMMU_PAGE_REQUEST_RECORD_PRIV_MASK 0x200000000ull /* supervisor access */
#define IOVIRT_IOMMU_PAGE_REQUEST_RECORD_EXEC_WORD 0
#define IOVIRT_IOMMU_PAGE_REQUEST_RECORD_EXEC_SHIFT 34
#define IOVIRT_IOMMU_PAGE_REQUEST_RECORD_EXEC_MASK 0x400000000ull /* execute access */
#define IOVIRT_IOMMU_PAGE_REQUEST_RECORD_DID_WORD 0
#define IOVIRT_IOMMU_PAGE_REQUEST_RECORD_DID_SHIFT 40
#define IOVIRT_IOMMU_PAGE_REQUEST_RECORD_DID_MASK 0xffffff0000000000ull /* device_id */
#define IOVIRT_IOMMU_PAGE_REQUEST_RECORD_PAYLOAD_WORD 1
#define IOVIRT_IOMMU_PAGE_REQUEST_RECORD_PAYLOAD_SHIFT 0
#define IOVIRT_IOMMU_PAGE_REQUEST_RECORD_PAYLOAD_MASK 0xffffffffffffffffull /* PageRequestPayload */
static_assert(sizeof(struct iovirt_iommu_page_request_record) == 16, "size");

/* PAYLOAD of a page request (PCIe Page Request Message). */
struct iovirt_iommu_page_request_payload {
    uint64_t word[1];
};
#define IOVIRT_IOMMU_PAGE_REQUEST_PAYLOAD_R_WORD 0
#define IOVIRT_IOMMU_PAGE_REQUEST_PAYLOAD_R_SHIFT 0
#define IOVIRT_IOMMU_PAGE_REQUEST_PAYLOAD_R_MASK 0x1ull /* read */
#define IOVIRT_IOMMU_PAGE_REQUEST_PAYLOAD_W_WORD 0
#define IOVIRT_IOMMU_PAGE_REQUEST_PAYLOAD_W_SHIFT 1
#define IOVIRT_IOMMU_PAGE_REQUEST_PAYLOAD_W_MASK 0x2ull /* write */
#define IOVIRT_IOMMU_PAGE_REQUEST_PAYLOAD_LAST_WORD 0
#define IOVIRT_IOMMU_PAGE_REQUEST_PAYLOAD_LAST_SHIFT 2
#define IOVIRT_IOMMU_PAGE_REQUEST_PAYLOAD_LAST_MASK 0x4ull /* last of its group */
#define IOVIRT_IOMMU_PAGE_REQUEST_PAYLOAD_INDEX_WORD 0
#define IOVIRT_IOMMU_PAGE_REQUEST_PAYLOAD_INDEX_SHIFT 3
#define IOVIRT_IOMMU_PAGE_REQUEST_PAYLOAD_INDEX_MASK 0xff8ull /* group */
#define IOVIRT_IOMMU_PAGE_REQUEST_PAYLOAD_ADDRESS_WORD 0
#define IOVIRT_IOMMU_PAGE_REQUEST_PAYLOAD_ADDRESS_SHIFT 12
#define IOVIRT_IOMMU_PAGE_REQUEST_PAYLOAD_ADDRESS_MASK 0xfffffffffffff000ull
static_assert(sizeof(struct iovirt_iommu_page_request_payload) == 8, "size");

/* ---- Virtio: records ------------------------------------------------------------------------ */

/* Split-ring descriptor, 16 bytes (2.7.5). */
struct iovirt_virtio_descriptor {
    uint64_t addr;
    uint32_t len;
    uint16_t flags; /* DescriptorFlag */
    uint16_t next;
};
static_assert(offsetof(struct iovirt_virtio_descriptor, addr) == 0, "offset");
static_assert(offsetof(struct iovirt_virtio_descriptor, len) == 8, "offset");
static_assert(offsetof(struct iovirt_virtio_descriptor, flags) == 12, "offset");
static_assert(offsetof(struct iovirt_virtio_descriptor, next) == 14, "offset");
static_assert(sizeof(struct iovirt_virtio_descriptor) == 16, "size");

/* Descriptor of a packed ring or of its indirect tables, 16 bytes (2.8.13). */
struct iovirt_virtio_packed_descriptor {
    uint64_t addr;
    uint32_t len;
    uint16_t id;
    uint16_t flags; /* DescriptorFlag */
};
static_assert(offsetof(struct iovirt_virtio_packed_descriptor, addr) == 0, "offset");
static_assert(offsetof(struct iovirt_virtio_packed_descriptor, len) == 8, "offset");
static_assert(offsetof(struct iovirt_virtio_packed_descriptor, id) == 12, "offset");
static_assert(offsetof(struct iovirt_virtio_packed_descriptor, flags) == 14, "offset");
static_assert(sizeof(struct iovirt_virtio_packed_descriptor) == 16, "size");

/* Event suppression structure of a packed ring's driver or device area, 4 bytes (2.8.14). */
struct iovirt_virtio_event_suppression {
    uint32_t word[1];
};
#define IOVIRT_VIRTIO_EVENT_SUPPRESSION_OFFSET_WORD 0
#define IOVIRT_VIRTIO_EVENT_SUPPRESSION_OFFSET_SHIFT 0
#define IOVIRT_VIRTIO_EVENT_SUPPRESSION_OFFSET_MASK 0x7fffu
#define IOVIRT_VIRTIO_EVENT_SUPPRESSION_WRAP_WORD 0
#define IOVIRT_VIRTIO_EVENT_SUPPRESSION_WRAP_SHIFT 15
#define IOVIRT_VIRTIO_EVENT_SUPPRESSION_WRAP_MASK 0x8000u
#define IOVIRT_VIRTIO_EVENT_SUPPRESSION_FLAGS_WORD 0
#define IOVIRT_VIRTIO_EVENT_SUPPRESSION_FLAGS_SHIFT 16
#define IOVIRT_VIRTIO_EVENT_SUPPRESSION_FLAGS_MASK 0x30000u /* EventFlags */
static_assert(sizeof(struct iovirt_virtio_event_suppression) == 4, "size");

/* Element of the used ring, 8 bytes (2.7.8). */
struct iovirt_virtio_used_element {
    uint32_t id;
    uint32_t len;
};
static_assert(offsetof(struct iovirt_virtio_used_element, id) == 0, "offset");
static_assert(offsetof(struct iovirt_virtio_used_element, len) == 4, "offset");
static_assert(sizeof(struct iovirt_virtio_used_element) == 8, "size");

/* virtio_net_hdr, 12 bytes with VERSION_1 (5.1.6). */
struct iovirt_virtio_net_header {
    uint8_t flags; /* NetHeaderFlag */
    uint8_t gso_type; /* GsoType */
    uint16_t hdr_len; /* a hint */
    uint16_t gso_size; /* bytes of TCP payload of a segment */
    uint16_t csum_start;
    uint16_t csum_offset;
    uint16_t num_buffers;
};
static_assert(offsetof(struct iovirt_virtio_net_header, flags) == 0, "offset");
static_assert(offsetof(struct iovirt_virtio_net_header, gso_type) == 1, "offset");
static_assert(offsetof(struct iovirt_virtio_net_header, hdr_len) == 2, "offset");
static_assert(offsetof(struct iovirt_virtio_net_header, gso_size) == 4, "offset");
static_assert(offsetof(struct iovirt_virtio_net_header, csum_start) == 6, "offset");
static_assert(offsetof(struct iovirt_virtio_net_header, csum_offset) == 8, "offset");
static_assert(offsetof(struct iovirt_virtio_net_header, num_buffers) == 10, "offset");
static_assert(sizeof(struct iovirt_virtio_net_header) == 12, "size");

/* virtio_net_config up to RSS (5.1.4). */
struct iovirt_virtio_net_config {
    uint8_t mac[6];
    uint16_t status; /* NetStatus */
    uint16_t max_virtqueue_pairs;
    uint16_t mtu;
    uint32_t speed; /* Mbit/s; with SPEED_DUPLEX */
    uint8_t duplex;
    uint8_t rss_max_key_size;
    uint16_t rss_max_indirection_table_length;
    uint32_t supported_hash_types;
};
static_assert(offsetof(struct iovirt_virtio_net_config, mac) == 0, "offset");
static_assert(offsetof(struct iovirt_virtio_net_config, status) == 6, "offset");
static_assert(offsetof(struct iovirt_virtio_net_config, max_virtqueue_pairs) == 8, "offset");
static_assert(offsetof(struct iovirt_virtio_net_config, mtu) == 10, "offset");
static_assert(offsetof(struct iovirt_virtio_net_config, speed) == 12, "offset");
static_assert(offsetof(struct iovirt_virtio_net_config, duplex) == 16, "offset");
static_assert(offsetof(struct iovirt_virtio_net_config, rss_max_key_size) == 17, "offset");
static_assert(offsetof(struct iovirt_virtio_net_config, rss_max_indirection_table_length) == 18, "offset");
static_assert(offsetof(struct iovirt_virtio_net_config, supported_hash_types) == 20, "offset");
static_assert(sizeof(struct iovirt_virtio_net_config) == 24, "size");

/* First two bytes of a command (5.1.6.5). */
struct iovirt_virtio_control_header {
    uint8_t kind; /* ControlClass */
    uint8_t command;
};
static_assert(offsetof(struct iovirt_virtio_control_header, kind) == 0, "offset");
static_assert(offsetof(struct iovirt_virtio_control_header, command) == 1, "offset");
static_assert(sizeof(struct iovirt_virtio_control_header) == 2, "size");

/* virtio_net_rss_config up to its indirection table (5.1.6.5.7.1). */
struct iovirt_virtio_rss_head {
    uint32_t hash_types; /* HashType */
    uint16_t indirection_table_mask;
    uint16_t unclassified_queue; /* number of a queue pair */
};
static_assert(offsetof(struct iovirt_virtio_rss_head, hash_types) == 0, "offset");
static_assert(offsetof(struct iovirt_virtio_rss_head, indirection_table_mask) == 4, "offset");
static_assert(offsetof(struct iovirt_virtio_rss_head, unclassified_queue) == 6, "offset");
static_assert(sizeof(struct iovirt_virtio_rss_head) == 8, "size");

/* ---- NIC: records --------------------------------------------------------------------------- */

/* MSI-X table entry, 16 bytes (PCI Base 6.0, 7.7.2). */
struct iovirt_nic_msix_entry {
    uint64_t word[2];
};
#define IOVIRT_NIC_MSIX_ENTRY_ADDRESS_WORD 0
#define IOVIRT_NIC_MSIX_ENTRY_ADDRESS_SHIFT 0
#define IOVIRT_NIC_MSIX_ENTRY_ADDRESS_MASK 0xffffffffffffffffull
#define IOVIRT_NIC_MSIX_ENTRY_DATA_WORD 1
#define IOVIRT_NIC_MSIX_ENTRY_DATA_SHIFT 0
#define IOVIRT_NIC_MSIX_ENTRY_DATA_MASK 0xffffffffull
#define IOVIRT_NIC_MSIX_ENTRY_MASK_WORD 1
#define IOVIRT_NIC_MSIX_ENTRY_MASK_SHIFT 32
#define IOVIRT_NIC_MSIX_ENTRY_MASK_MASK 0x100000000ull
static_assert(sizeof(struct iovirt_nic_msix_entry) == 16, "size");

/* backup of a function: the ring of each of its queue pairs, in memory that is pinned. */
struct iovirt_nic_backup_ring {
    uint32_t word[1];
};
#define IOVIRT_NIC_BACKUP_RING_ENTRIES_LOG2_WORD 0
#define IOVIRT_NIC_BACKUP_RING_ENTRIES_LOG2_SHIFT 0
#define IOVIRT_NIC_BACKUP_RING_ENTRIES_LOG2_MASK 0xfu /* at most BACKUP_ENTRIES_LOG2_MAX */
#define IOVIRT_NIC_BACKUP_RING_ENABLE_WORD 0
#define IOVIRT_NIC_BACKUP_RING_ENABLE_SHIFT 31
#define IOVIRT_NIC_BACKUP_RING_ENABLE_MASK 0x80000000u
static_assert(sizeof(struct iovirt_nic_backup_ring) == 4, "size");

/* Begins an entry of a backup ring; what follows up to the frame has no meaning. */
struct iovirt_nic_backup_entry {
    uint32_t word[1];
};
#define IOVIRT_NIC_BACKUP_ENTRY_LENGTH_WORD 0
#define IOVIRT_NIC_BACKUP_ENTRY_LENGTH_SHIFT 0
#define IOVIRT_NIC_BACKUP_ENTRY_LENGTH_MASK 0x3fffu /* bytes of the frame */
#define IOVIRT_NIC_BACKUP_ENTRY_CHECKSUM_WORD 0
#define IOVIRT_NIC_BACKUP_ENTRY_CHECKSUM_SHIFT 14
/* 0: nothing is known of it, 1: it is good, 2: it is bad */
#define IOVIRT_NIC_BACKUP_ENTRY_CHECKSUM_MASK 0xc000u
static_assert(sizeof(struct iovirt_nic_backup_entry) == 4, "size");

/* control of a function in the management pages. */
struct iovirt_nic_function_control {
    uint32_t word[1];
};
#define IOVIRT_NIC_FUNCTION_CONTROL_ENABLE_WORD 0
#define IOVIRT_NIC_FUNCTION_CONTROL_ENABLE_SHIFT 0
#define IOVIRT_NIC_FUNCTION_CONTROL_ENABLE_MASK 0x1u /* the function may do DMA, send and receive */
#define IOVIRT_NIC_FUNCTION_CONTROL_ATS_WORD 0
#define IOVIRT_NIC_FUNCTION_CONTROL_ATS_SHIFT 1
/* translate by ATS, park and retry; else DMA is untranslated and faults are errors */
#define IOVIRT_NIC_FUNCTION_CONTROL_ATS_MASK 0x2u
#define IOVIRT_NIC_FUNCTION_CONTROL_PROMISCUOUS_WORD 0
#define IOVIRT_NIC_FUNCTION_CONTROL_PROMISCUOUS_SHIFT 2
#define IOVIRT_NIC_FUNCTION_CONTROL_PROMISCUOUS_MASK 0x4u /* receives every frame of its VLAN */
#define IOVIRT_NIC_FUNCTION_CONTROL_MULTICAST_FILTER_WORD 0
#define IOVIRT_NIC_FUNCTION_CONTROL_MULTICAST_FILTER_SHIFT 3
/* of multicast frames only those to a MAC filter; else all of its VLAN */
#define IOVIRT_NIC_FUNCTION_CONTROL_MULTICAST_FILTER_MASK 0x8u
#define IOVIRT_NIC_FUNCTION_CONTROL_VLAN_FILTER_WORD 0
#define IOVIRT_NIC_FUNCTION_CONTROL_VLAN_FILTER_SHIFT 4
/* without a VLAN of its own: of tagged frames only those with a VLAN filter */
#define IOVIRT_NIC_FUNCTION_CONTROL_VLAN_FILTER_MASK 0x10u
#define IOVIRT_NIC_FUNCTION_CONTROL_SPOOF_CHECK_WORD 0
#define IOVIRT_NIC_FUNCTION_CONTROL_SPOOF_CHECK_SHIFT 5
/* drops what it sends under a MAC, or a VLAN that is filtered, not its own */
#define IOVIRT_NIC_FUNCTION_CONTROL_SPOOF_CHECK_MASK 0x20u
#define IOVIRT_NIC_FUNCTION_CONTROL_MIRROR_WORD 0
#define IOVIRT_NIC_FUNCTION_CONTROL_MIRROR_SHIFT 6
/* receives a copy of every frame that is forwarded, tagged as on the wire */
#define IOVIRT_NIC_FUNCTION_CONTROL_MIRROR_MASK 0x40u
#define IOVIRT_NIC_FUNCTION_CONTROL_LINK_DOWN_WORD 0
#define IOVIRT_NIC_FUNCTION_CONTROL_LINK_DOWN_SHIFT 7
/* neither sends nor receives, and its driver sees the link down */
#define IOVIRT_NIC_FUNCTION_CONTROL_LINK_DOWN_MASK 0x80u
#define IOVIRT_NIC_FUNCTION_CONTROL_ATTENDED_WORD 0
#define IOVIRT_NIC_FUNCTION_CONTROL_ATTENDED_SHIFT 8
/* its driver's resets end when software has cleared their event; see MailboxEvent */
#define IOVIRT_NIC_FUNCTION_CONTROL_ATTENDED_MASK 0x100u
static_assert(sizeof(struct iovirt_nic_function_control) == 4, "size");

/* vlan of a function: frames are tagged and untagged by the switch (IEEE 802.1Q). */
struct iovirt_nic_function_vlan {
    uint32_t word[1];
};
#define IOVIRT_NIC_FUNCTION_VLAN_VID_WORD 0
#define IOVIRT_NIC_FUNCTION_VLAN_VID_SHIFT 0
#define IOVIRT_NIC_FUNCTION_VLAN_VID_MASK 0xfffu
#define IOVIRT_NIC_FUNCTION_VLAN_PRIORITY_WORD 0
#define IOVIRT_NIC_FUNCTION_VLAN_PRIORITY_SHIFT 16
#define IOVIRT_NIC_FUNCTION_VLAN_PRIORITY_MASK 0x70000u /* of the tag of frames that it sends */
#define IOVIRT_NIC_FUNCTION_VLAN_ENABLE_WORD 0
#define IOVIRT_NIC_FUNCTION_VLAN_ENABLE_SHIFT 31
#define IOVIRT_NIC_FUNCTION_VLAN_ENABLE_MASK 0x80000000u
static_assert(sizeof(struct iovirt_nic_function_vlan) == 4, "size");

/* mac_filter_high: the end of a MAC that a function receives beside its own. */
struct iovirt_nic_mac_filter_high {
    uint32_t word[1];
};
#define IOVIRT_NIC_MAC_FILTER_HIGH_MAC_WORD 0
#define IOVIRT_NIC_MAC_FILTER_HIGH_MAC_SHIFT 0
#define IOVIRT_NIC_MAC_FILTER_HIGH_MAC_MASK 0xffffu
#define IOVIRT_NIC_MAC_FILTER_HIGH_VALID_WORD 0
#define IOVIRT_NIC_MAC_FILTER_HIGH_VALID_SHIFT 31
#define IOVIRT_NIC_MAC_FILTER_HIGH_VALID_MASK 0x80000000u
static_assert(sizeof(struct iovirt_nic_mac_filter_high) == 4, "size");

/* vlan_filter: a VLAN that a function receives. */
struct iovirt_nic_vlan_filter {
    uint32_t word[1];
};
#define IOVIRT_NIC_VLAN_FILTER_VID_WORD 0
#define IOVIRT_NIC_VLAN_FILTER_VID_SHIFT 0
#define IOVIRT_NIC_VLAN_FILTER_VID_MASK 0xfffu
#define IOVIRT_NIC_VLAN_FILTER_VALID_WORD 0
#define IOVIRT_NIC_VLAN_FILTER_VALID_SHIFT 31
#define IOVIRT_NIC_VLAN_FILTER_VALID_MASK 0x80000000u
static_assert(sizeof(struct iovirt_nic_vlan_filter) == 4, "size");

/* rss of a function (virtio 1.3, 5.1.6.5.7). */
struct iovirt_nic_rss_control {
    uint32_t word[1];
};
#define IOVIRT_NIC_RSS_CONTROL_TABLE_MASK_WORD 0
#define IOVIRT_NIC_RSS_CONTROL_TABLE_MASK_SHIFT 0
/* entries of the indirection table, a power of two, less one */
#define IOVIRT_NIC_RSS_CONTROL_TABLE_MASK_MASK 0x7fu
#define IOVIRT_NIC_RSS_CONTROL_CLOSED_WORD 0
#define IOVIRT_NIC_RSS_CONTROL_CLOSED_SHIFT 7
/* bit n: receive queue pair n takes no frames; cleared by a reset of the device */
#define IOVIRT_NIC_RSS_CONTROL_CLOSED_MASK 0x7f80u
#define IOVIRT_NIC_RSS_CONTROL_UNCLASSIFIED_WORD 0
#define IOVIRT_NIC_RSS_CONTROL_UNCLASSIFIED_SHIFT 16
/* queue pair of frames that have no hash */
#define IOVIRT_NIC_RSS_CONTROL_UNCLASSIFIED_MASK 0xff0000u
#define IOVIRT_NIC_RSS_CONTROL_ENABLE_WORD 0
#define IOVIRT_NIC_RSS_CONTROL_ENABLE_SHIFT 31
/* else every frame goes to queue pair 0; likewise */
#define IOVIRT_NIC_RSS_CONTROL_ENABLE_MASK 0x80000000u
static_assert(sizeof(struct iovirt_nic_rss_control) == 4, "size");

/* coalescing of a queue: when its used buffers are notified (virtio 1.3, 5.1.6.5.8). */
struct iovirt_nic_queue_coalescing {
    uint32_t word[1];
};
#define IOVIRT_NIC_QUEUE_COALESCING_PACKETS_WORD 0
#define IOVIRT_NIC_QUEUE_COALESCING_PACKETS_SHIFT 0
#define IOVIRT_NIC_QUEUE_COALESCING_PACKETS_MASK 0x3ffu /* used buffers; 0: no matter how many */
#define IOVIRT_NIC_QUEUE_COALESCING_CYCLES_WORD 0
#define IOVIRT_NIC_QUEUE_COALESCING_CYCLES_SHIFT 10
#define IOVIRT_NIC_QUEUE_COALESCING_CYCLES_MASK 0xfffffc00u /* 0: at once */
static_assert(sizeof(struct iovirt_nic_queue_coalescing) == 4, "size");

/* ---- PCI: encodings ------------------------------------------------------------------------- */

/* Capabilities of the first 256 bytes (PCIe 7.5.3 and 7.7, PCI Code and ID Assignment). */
enum iovirt_pci_capability_id {
    IOVIRT_PCI_CAPABILITY_ID_POWER_MANAGEMENT = 1,
    IOVIRT_PCI_CAPABILITY_ID_VENDOR = 9,
    IOVIRT_PCI_CAPABILITY_ID_PCI_EXPRESS = 16,
    IOVIRT_PCI_CAPABILITY_ID_MSIX = 17,
};

/* Extended capabilities (PCIe 7.6 to 7.9). */
enum iovirt_pci_extended_id {
    IOVIRT_PCI_EXTENDED_ID_ACS = 13,
    IOVIRT_PCI_EXTENDED_ID_ARI = 14,
    IOVIRT_PCI_EXTENDED_ID_ATS = 15,
    IOVIRT_PCI_EXTENDED_ID_SR_IOV = 16,
    IOVIRT_PCI_EXTENDED_ID_PRI = 19,
    IOVIRT_PCI_EXTENDED_ID_PASID = 27,
};

/* cfg_type of a virtio capability (virtio 1.3, 4.1.4). */
enum iovirt_pci_virtio_structure {
    IOVIRT_PCI_VIRTIO_STRUCTURE_COMMON = 1,
    IOVIRT_PCI_VIRTIO_STRUCTURE_NOTIFY = 2,
    IOVIRT_PCI_VIRTIO_STRUCTURE_ISR = 3,
    IOVIRT_PCI_VIRTIO_STRUCTURE_DEVICE = 4,
    IOVIRT_PCI_VIRTIO_STRUCTURE_PCI = 5,
    IOVIRT_PCI_VIRTIO_STRUCTURE_VENDOR = 9,
};

/* ---- IOMMU: encodings ----------------------------------------------------------------------- */

/* ddtp.mode. */
enum iovirt_iommu_ddtp_mode {
    IOVIRT_IOMMU_DDTP_MODE_OFF = 0,
    IOVIRT_IOMMU_DDTP_MODE_BARE = 1,
    IOVIRT_IOMMU_DDTP_MODE_LVL1 = 2,
    IOVIRT_IOMMU_DDTP_MODE_LVL2 = 3,
    IOVIRT_IOMMU_DDTP_MODE_LVL3 = 4,
};

/* DC.iohgatp.MODE (with fctl.GXL 0; 8 means Sv32x4 with GXL 1). */
enum iovirt_iommu_iohgatp_mode {
    IOVIRT_IOMMU_IOHGATP_MODE_BARE = 0,
    IOVIRT_IOMMU_IOHGATP_MODE_SV39X4 = 8,
    IOVIRT_IOMMU_IOHGATP_MODE_SV48X4 = 9,
    IOVIRT_IOMMU_IOHGATP_MODE_SV57X4 = 10,
};

/* DC.fsc and PC.fsc mode (with SXL 0; 8 means Sv32 with SXL 1). */
enum iovirt_iommu_ioatp_mode {
    IOVIRT_IOMMU_IOATP_MODE_BARE = 0,
    IOVIRT_IOMMU_IOATP_MODE_SV39 = 8,
    IOVIRT_IOMMU_IOATP_MODE_SV48 = 9,
    IOVIRT_IOMMU_IOATP_MODE_SV57 = 10,
};

/* DC.fsc mode when DC.tc.PDTV is set. */
enum iovirt_iommu_pdtp_mode {
    IOVIRT_IOMMU_PDTP_MODE_BARE = 0,
    IOVIRT_IOMMU_PDTP_MODE_PD8 = 1,
    IOVIRT_IOMMU_PDTP_MODE_PD17 = 2,
    IOVIRT_IOMMU_PDTP_MODE_PD20 = 3,
};

/* DC.msiptp.MODE. */
enum iovirt_iommu_msiptp_mode {
    IOVIRT_IOMMU_MSIPTP_MODE_OFF = 0,
    IOVIRT_IOMMU_MSIPTP_MODE_FLAT = 1,
};

/* opcode of a command (section "Command-Queue"). */
enum iovirt_iommu_command_opcode {
    IOVIRT_IOMMU_COMMAND_OPCODE_IOTINVAL = 1,
    IOVIRT_IOMMU_COMMAND_OPCODE_IOFENCE = 2,
    IOVIRT_IOMMU_COMMAND_OPCODE_IODIR = 3,
    IOVIRT_IOMMU_COMMAND_OPCODE_ATS = 4,
};

/* func3: meaning depends on the opcode. */
enum iovirt_iommu_command_func {
    IOVIRT_IOMMU_COMMAND_FUNC_VMA = 0,
    IOVIRT_IOMMU_COMMAND_FUNC_GVMA = 1,
    IOVIRT_IOMMU_COMMAND_FUNC_C = 0,
    IOVIRT_IOMMU_COMMAND_FUNC_INVAL_DDT = 0,
    IOVIRT_IOMMU_COMMAND_FUNC_INVAL_PDT = 1,
    IOVIRT_IOMMU_COMMAND_FUNC_INVAL = 0,
    IOVIRT_IOMMU_COMMAND_FUNC_PRGR = 1,
};

/* CAUSE of a fault record (section "Fault/Event-Queue"). */
enum iovirt_iommu_cause {
    IOVIRT_IOMMU_CAUSE_INSTRUCTION_ACCESS_FAULT = 1,
    IOVIRT_IOMMU_CAUSE_READ_ADDRESS_MISALIGNED = 4,
    IOVIRT_IOMMU_CAUSE_READ_ACCESS_FAULT = 5,
    IOVIRT_IOMMU_CAUSE_WRITE_ADDRESS_MISALIGNED = 6,
    IOVIRT_IOMMU_CAUSE_WRITE_ACCESS_FAULT = 7,
    IOVIRT_IOMMU_CAUSE_INSTRUCTION_PAGE_FAULT = 12,
    IOVIRT_IOMMU_CAUSE_READ_PAGE_FAULT = 13,
    IOVIRT_IOMMU_CAUSE_WRITE_PAGE_FAULT = 15,
    IOVIRT_IOMMU_CAUSE_INSTRUCTION_GUEST_PAGE_FAULT = 20,
    IOVIRT_IOMMU_CAUSE_READ_GUEST_PAGE_FAULT = 21,
    IOVIRT_IOMMU_CAUSE_WRITE_GUEST_PAGE_FAULT = 23,
    IOVIRT_IOMMU_CAUSE_ALL_INBOUND_DISALLOWED = 256,
    IOVIRT_IOMMU_CAUSE_DDT_ACCESS_FAULT = 257,
    IOVIRT_IOMMU_CAUSE_DDT_INVALID = 258,
    IOVIRT_IOMMU_CAUSE_DDT_MISCONFIGURED = 259,
    IOVIRT_IOMMU_CAUSE_TYPE_DISALLOWED = 260,
    IOVIRT_IOMMU_CAUSE_MSI_PTE_ACCESS_FAULT = 261,
    IOVIRT_IOMMU_CAUSE_MSI_PTE_INVALID = 262,
    IOVIRT_IOMMU_CAUSE_MSI_PTE_MISCONFIGURED = 263,
    IOVIRT_IOMMU_CAUSE_MRIF_ACCESS_FAULT = 264,
    IOVIRT_IOMMU_CAUSE_PDT_ACCESS_FAULT = 265,
    IOVIRT_IOMMU_CAUSE_PDT_INVALID = 266,
    IOVIRT_IOMMU_CAUSE_PDT_MISCONFIGURED = 267,
    IOVIRT_IOMMU_CAUSE_DDT_CORRUPTION = 268,
    IOVIRT_IOMMU_CAUSE_PDT_CORRUPTION = 269,
    IOVIRT_IOMMU_CAUSE_MSI_PT_CORRUPTION = 270,
    IOVIRT_IOMMU_CAUSE_MRIF_CORRUPTION = 271,
    IOVIRT_IOMMU_CAUSE_INTERNAL_ERROR = 272,
    IOVIRT_IOMMU_CAUSE_MSI_WRITE_ACCESS_FAULT = 273,
    IOVIRT_IOMMU_CAUSE_PT_CORRUPTION = 274,
};

/* TTYP of a fault record: kind of the transaction. */
enum iovirt_iommu_ttyp {
    IOVIRT_IOMMU_TTYP_NONE = 0,
    IOVIRT_IOMMU_TTYP_UNTRANSLATED_EXECUTE = 1,
    IOVIRT_IOMMU_TTYP_UNTRANSLATED_READ = 2,
    IOVIRT_IOMMU_TTYP_UNTRANSLATED_WRITE = 3,
    IOVIRT_IOMMU_TTYP_TRANSLATED_EXECUTE = 5,
    IOVIRT_IOMMU_TTYP_TRANSLATED_READ = 6,
    IOVIRT_IOMMU_TTYP_TRANSLATED_WRITE = 7,
    IOVIRT_IOMMU_TTYP_ATS_REQUEST = 8,
    IOVIRT_IOMMU_TTYP_MESSAGE = 9,
};

/* Response code of a page request group (PCIe 10.4.2.1). */
enum iovirt_iommu_page_response {
    IOVIRT_IOMMU_PAGE_RESPONSE_SUCCESS = 0,
    IOVIRT_IOMMU_PAGE_RESPONSE_INVALID = 1,
    IOVIRT_IOMMU_PAGE_RESPONSE_FAILURE = 15,
};

/* iohpmevt.eventID (section "Performance-monitoring event selector"). */
enum iovirt_iommu_hpm_event {
    IOVIRT_IOMMU_HPM_EVENT_NONE = 0,
    IOVIRT_IOMMU_HPM_EVENT_UNTRANSLATED_REQUEST = 1,
    IOVIRT_IOMMU_HPM_EVENT_TRANSLATED_REQUEST = 2,
    IOVIRT_IOMMU_HPM_EVENT_ATS_REQUEST = 3,
    IOVIRT_IOMMU_HPM_EVENT_TLB_MISS = 4,
    IOVIRT_IOMMU_HPM_EVENT_DDT_WALK = 5,
    IOVIRT_IOMMU_HPM_EVENT_PDT_WALK = 6,
    IOVIRT_IOMMU_HPM_EVENT_FIRST_STAGE_WALK = 7,
    IOVIRT_IOMMU_HPM_EVENT_SECOND_STAGE_WALK = 8,
    IOVIRT_IOMMU_HPM_EVENT_LOOKUP = 16384,
};

/* ---- Virtio: encodings ---------------------------------------------------------------------- */

/* device_status (2.1). */
enum iovirt_virtio_device_status {
    IOVIRT_VIRTIO_DEVICE_STATUS_ACKNOWLEDGE = 1,
    IOVIRT_VIRTIO_DEVICE_STATUS_DRIVER = 2,
    IOVIRT_VIRTIO_DEVICE_STATUS_DRIVER_OK = 4,
    IOVIRT_VIRTIO_DEVICE_STATUS_FEATURES_OK = 8,
    IOVIRT_VIRTIO_DEVICE_STATUS_DEVICE_NEEDS_RESET = 64,
    IOVIRT_VIRTIO_DEVICE_STATUS_FAILED = 128,
};

/* Feature bit numbers (5.1.3 and 6). */
enum iovirt_virtio_feature {
    IOVIRT_VIRTIO_FEATURE_NET_CSUM = 0,
    IOVIRT_VIRTIO_FEATURE_NET_GUEST_CSUM = 1,
    IOVIRT_VIRTIO_FEATURE_NET_CTRL_GUEST_OFFLOADS = 2,
    IOVIRT_VIRTIO_FEATURE_NET_MTU = 3,
    IOVIRT_VIRTIO_FEATURE_NET_MAC = 5,
    IOVIRT_VIRTIO_FEATURE_NET_GUEST_TSO4 = 7,
    IOVIRT_VIRTIO_FEATURE_NET_GUEST_TSO6 = 8,
    IOVIRT_VIRTIO_FEATURE_NET_GUEST_ECN = 9,
    IOVIRT_VIRTIO_FEATURE_NET_HOST_TSO4 = 11,
    IOVIRT_VIRTIO_FEATURE_NET_HOST_TSO6 = 12,
    IOVIRT_VIRTIO_FEATURE_NET_HOST_ECN = 13,
    IOVIRT_VIRTIO_FEATURE_NET_MRG_RXBUF = 15,
    IOVIRT_VIRTIO_FEATURE_NET_STATUS = 16,
    IOVIRT_VIRTIO_FEATURE_NET_CTRL_VQ = 17,
    IOVIRT_VIRTIO_FEATURE_NET_CTRL_RX = 18,
    IOVIRT_VIRTIO_FEATURE_NET_CTRL_VLAN = 19,
    IOVIRT_VIRTIO_FEATURE_NET_CTRL_RX_EXTRA = 20,
    IOVIRT_VIRTIO_FEATURE_NET_GUEST_ANNOUNCE = 21,
    IOVIRT_VIRTIO_FEATURE_NET_MQ = 22,
    IOVIRT_VIRTIO_FEATURE_NET_CTRL_MAC_ADDR = 23,
    IOVIRT_VIRTIO_FEATURE_RING_INDIRECT_DESC = 28,
    IOVIRT_VIRTIO_FEATURE_RING_EVENT_IDX = 29,
    IOVIRT_VIRTIO_FEATURE_VERSION_1 = 32,
    IOVIRT_VIRTIO_FEATURE_ACCESS_PLATFORM = 33,
    IOVIRT_VIRTIO_FEATURE_RING_PACKED = 34,
    IOVIRT_VIRTIO_FEATURE_IN_ORDER = 35,
    IOVIRT_VIRTIO_FEATURE_ORDER_PLATFORM = 36,
    IOVIRT_VIRTIO_FEATURE_SR_IOV = 37,
    IOVIRT_VIRTIO_FEATURE_NOTIFICATION_DATA = 38,
    IOVIRT_VIRTIO_FEATURE_RING_RESET = 40,
    IOVIRT_VIRTIO_FEATURE_NET_VQ_NOTF_COAL = 52,
    IOVIRT_VIRTIO_FEATURE_NET_NOTF_COAL = 53,
    IOVIRT_VIRTIO_FEATURE_NET_HASH_REPORT = 57,
    IOVIRT_VIRTIO_FEATURE_NET_RSS = 60,
    IOVIRT_VIRTIO_FEATURE_NET_SPEED_DUPLEX = 63,
};

/* flags of a descriptor (2.7.5 and 2.8.1). */
enum iovirt_virtio_descriptor_flag {
    IOVIRT_VIRTIO_DESCRIPTOR_FLAG_NEXT = 1,
    IOVIRT_VIRTIO_DESCRIPTOR_FLAG_WRITE = 2,
    IOVIRT_VIRTIO_DESCRIPTOR_FLAG_INDIRECT = 4,
    IOVIRT_VIRTIO_DESCRIPTOR_FLAG_AVAIL = 128,
    IOVIRT_VIRTIO_DESCRIPTOR_FLAG_USED = 32768,
};

/* When to notify, in an event suppression structure (2.8.14). */
enum iovirt_virtio_event_flags {
    IOVIRT_VIRTIO_EVENT_FLAGS_ENABLE = 0,
    IOVIRT_VIRTIO_EVENT_FLAGS_DISABLE = 1,
    IOVIRT_VIRTIO_EVENT_FLAGS_DESC = 2,
};

/* flags of a NetHeader (5.1.6). */
enum iovirt_virtio_net_header_flag {
    IOVIRT_VIRTIO_NET_HEADER_FLAG_NEEDS_CSUM = 1,
    IOVIRT_VIRTIO_NET_HEADER_FLAG_DATA_VALID = 2,
};

/* gso_type of a NetHeader (5.1.6); ECN is a bit beside the others. */
enum iovirt_virtio_gso_type {
    IOVIRT_VIRTIO_GSO_TYPE_NONE = 0,
    IOVIRT_VIRTIO_GSO_TYPE_TCPV4 = 1,
    IOVIRT_VIRTIO_GSO_TYPE_TCPV6 = 4,
    IOVIRT_VIRTIO_GSO_TYPE_ECN = 128,
};

/* status of a NetConfig (5.1.4). */
enum iovirt_virtio_net_status {
    IOVIRT_VIRTIO_NET_STATUS_LINK_UP = 1,
    IOVIRT_VIRTIO_NET_STATUS_ANNOUNCE = 2,
};

/* class of a command (5.1.6.5). */
enum iovirt_virtio_control_class {
    IOVIRT_VIRTIO_CONTROL_CLASS_RX = 0,
    IOVIRT_VIRTIO_CONTROL_CLASS_MAC = 1,
    IOVIRT_VIRTIO_CONTROL_CLASS_VLAN = 2,
    IOVIRT_VIRTIO_CONTROL_CLASS_ANNOUNCE = 3,
    IOVIRT_VIRTIO_CONTROL_CLASS_MQ = 4,
    IOVIRT_VIRTIO_CONTROL_CLASS_NOTF_COAL = 6,
};

/* Receive filters, with CTRL_RX; data is a byte, 0 or 1 (5.1.6.5.1). */
enum iovirt_virtio_control_rx {
    IOVIRT_VIRTIO_CONTROL_RX_PROMISC = 0,
    IOVIRT_VIRTIO_CONTROL_RX_ALLMULTI = 1,
};

/* MAC addresses (5.1.6.5.2). */
enum iovirt_virtio_control_mac {
    IOVIRT_VIRTIO_CONTROL_MAC_TABLE_SET = 0,
    IOVIRT_VIRTIO_CONTROL_MAC_ADDR_SET = 1,
};

/* VLAN filter; data is a VLAN in 16 bits (5.1.6.5.3). */
enum iovirt_virtio_control_vlan {
    IOVIRT_VIRTIO_CONTROL_VLAN_ADD = 0,
    IOVIRT_VIRTIO_CONTROL_VLAN_DEL = 1,
};

/* Receive steering (5.1.6.5.5 to 5.1.6.5.7). */
enum iovirt_virtio_control_mq {
    IOVIRT_VIRTIO_CONTROL_MQ_PAIRS_SET = 0,
    IOVIRT_VIRTIO_CONTROL_MQ_RSS_CONFIG = 1,
};

/* The device's answer to a command (5.1.6.5). */
enum iovirt_virtio_control_ack {
    IOVIRT_VIRTIO_CONTROL_ACK_OK = 0,
    IOVIRT_VIRTIO_CONTROL_ACK_ERR = 1,
};

/* What packets are hashed by (5.1.6.4.3.1). */
enum iovirt_virtio_hash_type {
    IOVIRT_VIRTIO_HASH_TYPE_IPV4 = 1,
    IOVIRT_VIRTIO_HASH_TYPE_TCPV4 = 2,
    IOVIRT_VIRTIO_HASH_TYPE_UDPV4 = 4,
    IOVIRT_VIRTIO_HASH_TYPE_IPV6 = 8,
    IOVIRT_VIRTIO_HASH_TYPE_TCPV6 = 16,
    IOVIRT_VIRTIO_HASH_TYPE_UDPV6 = 32,
};

/* ---- NIC: encodings ------------------------------------------------------------------------- */

/* ISR status (virtio 1.3, 4.1.4.5); reading clears it. */
enum iovirt_nic_isr {
    IOVIRT_NIC_ISR_QUEUE = 1,
    IOVIRT_NIC_ISR_CONFIG = 2,
};

/* events of a function, for the hypervisor's software. */
enum iovirt_nic_mailbox_event {
    IOVIRT_NIC_MAILBOX_EVENT_CONTROL = 1,
    IOVIRT_NIC_MAILBOX_EVENT_RESET = 2,
    IOVIRT_NIC_MAILBOX_EVENT_READY = 4,
    IOVIRT_NIC_MAILBOX_EVENT_QUEUE_RESET = 8,
    IOVIRT_NIC_MAILBOX_EVENT_DATA_RESET = 16,
};

/* Why a queue stopped; 0 while it runs. */
enum iovirt_nic_queue_error {
    IOVIRT_NIC_QUEUE_ERROR_NONE = 0,
    IOVIRT_NIC_QUEUE_ERROR_RING_ADDRESS = 1,
    IOVIRT_NIC_QUEUE_ERROR_BUFFER_ADDRESS = 2,
    IOVIRT_NIC_QUEUE_ERROR_BAD_INDEX = 3,
    IOVIRT_NIC_QUEUE_ERROR_BAD_HEAD = 4,
    IOVIRT_NIC_QUEUE_ERROR_BAD_CHAIN = 5,
    IOVIRT_NIC_QUEUE_ERROR_BAD_LENGTH = 6,
    IOVIRT_NIC_QUEUE_ERROR_BAD_FLAGS = 7,
    IOVIRT_NIC_QUEUE_ERROR_PAGE_REQUEST_FAILED = 8,
    IOVIRT_NIC_QUEUE_ERROR_BUS = 9,
    IOVIRT_NIC_QUEUE_ERROR_BAD_INDIRECT = 10,
    IOVIRT_NIC_QUEUE_ERROR_BAD_WRAP = 11,
};

/* Counters kept per function, 48 bits each. */
enum iovirt_nic_stat {
    IOVIRT_NIC_STAT_TX_PACKETS = 0,
    IOVIRT_NIC_STAT_TX_BYTES = 1,
    IOVIRT_NIC_STAT_RX_PACKETS = 2,
    IOVIRT_NIC_STAT_RX_BYTES = 3,
    IOVIRT_NIC_STAT_TX_DROPPED = 4,
    IOVIRT_NIC_STAT_RX_DROPPED_FULL = 5,
    IOVIRT_NIC_STAT_RX_DROPPED_FILTER = 6,
    IOVIRT_NIC_STAT_PAGE_REQUESTS = 7,
    IOVIRT_NIC_STAT_PAGE_RETRIES = 8,
    IOVIRT_NIC_STAT_PARKED_CYCLES = 9,
    IOVIRT_NIC_STAT_INTERRUPTS = 10,
    IOVIRT_NIC_STAT_INTERRUPTS_MASKED = 11,
    IOVIRT_NIC_STAT_DMA_READ_BYTES = 12,
    IOVIRT_NIC_STAT_DMA_WRITE_BYTES = 13,
    IOVIRT_NIC_STAT_TRANSLATIONS = 14,
    IOVIRT_NIC_STAT_DMA_FAULTS = 15,
    IOVIRT_NIC_STAT_TX_DROPPED_OFFLOAD = 16,
    IOVIRT_NIC_STAT_TX_DROPPED_MAC = 17,
    IOVIRT_NIC_STAT_TX_DROPPED_VLAN = 18,
    IOVIRT_NIC_STAT_TX_CHECKSUMS = 19,
    IOVIRT_NIC_STAT_TX_SEGMENTED = 20,
    IOVIRT_NIC_STAT_TX_MULTICAST = 21,
    IOVIRT_NIC_STAT_TX_BROADCAST = 22,
    IOVIRT_NIC_STAT_RX_MULTICAST = 23,
    IOVIRT_NIC_STAT_RX_BROADCAST = 24,
    IOVIRT_NIC_STAT_RX_CHECKSUM_GOOD = 25,
    IOVIRT_NIC_STAT_RX_CHECKSUM_BAD = 26,
    IOVIRT_NIC_STAT_RX_MERGED = 27,
    IOVIRT_NIC_STAT_NOTIFICATIONS = 28,
    IOVIRT_NIC_STAT_ATC_HITS = 29,
    IOVIRT_NIC_STAT_INVALIDATIONS = 30,
    IOVIRT_NIC_STAT_RX_BACKUP = 31,
    IOVIRT_NIC_STAT_PAGE_WAITS = 32,
    IOVIRT_NIC_STAT_RX_DROPPED_QUEUE = 33,
    IOVIRT_NIC_STAT_RX_DROPPED_BUFFER = 34,
    IOVIRT_NIC_STAT_RX_DROPPED_REFUSED = 35,
    IOVIRT_NIC_STAT_RX_DROPPED_LONG = 36,
    IOVIRT_NIC_STAT_RX_DROPPED_WIRE = 37,
    IOVIRT_NIC_STAT_TX_DROPPED_LENGTH = 38,
    IOVIRT_NIC_STAT_TX_DROPPED_REFUSED = 39,
    IOVIRT_NIC_STAT_TX_DROPPED_LINK = 40,
    IOVIRT_NIC_STAT_TX_DROPPED_NOBODY = 41,
};

/* Counters kept per receive queue, 48 bits each: its share of its function's of that name. */
enum iovirt_nic_rx_queue_stat {
    IOVIRT_NIC_RX_QUEUE_STAT_RX_PACKETS = 0,
    IOVIRT_NIC_RX_QUEUE_STAT_RX_BYTES = 1,
    IOVIRT_NIC_RX_QUEUE_STAT_RX_DROPPED = 2,
    IOVIRT_NIC_RX_QUEUE_STAT_NOTIFICATIONS = 3,
    IOVIRT_NIC_RX_QUEUE_STAT_RX_CHECKSUM_GOOD = 4,
    IOVIRT_NIC_RX_QUEUE_STAT_RX_CHECKSUM_BAD = 5,
    IOVIRT_NIC_RX_QUEUE_STAT_RX_MERGED = 6,
    IOVIRT_NIC_RX_QUEUE_STAT_RX_BACKUP = 7,
};

/* Counters kept per transmit queue, 48 bits each: its share of its function's of that name. */
enum iovirt_nic_tx_queue_stat {
    IOVIRT_NIC_TX_QUEUE_STAT_TX_PACKETS = 0,
    IOVIRT_NIC_TX_QUEUE_STAT_TX_BYTES = 1,
    IOVIRT_NIC_TX_QUEUE_STAT_TX_DROPPED = 2,
    IOVIRT_NIC_TX_QUEUE_STAT_NOTIFICATIONS = 3,
    IOVIRT_NIC_TX_QUEUE_STAT_TX_DROPPED_OFFLOAD = 4,
    IOVIRT_NIC_TX_QUEUE_STAT_TX_DROPPED_MAC = 5,
    IOVIRT_NIC_TX_QUEUE_STAT_TX_DROPPED_VLAN = 6,
    IOVIRT_NIC_TX_QUEUE_STAT_TX_SEGMENTED = 7,
};

#endif
