// SPDX-License-Identifier: Apache-2.0
// What the lab's HEST needs of the namespace on arm64. Compiled by virt.py with iasl.
DefinitionBlock ("", "SSDT", 2, "GHESRC", "GHESLAB ", 1)
{
    Scope (\_SB)
    {
        // The hardware error device: GPIO and GSIV notifications end in a Notify() of it.
        Device (LERR)
        {
            Name (_HID, EisaId ("PNP0C33"))
            Name (_UID, 17)
        }

        Device (LGED)
        {
            Name (_HID, "ACPI0013")
            Name (_UID, 17)
            Name (_CRS, ResourceTemplate ()
            {
                Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { 45 }  // virt.HED_GSI
            })
            Method (_EVT, 1, Serialized)
            {
                Notify (LERR, 0x80)
            }
        }

        // Somebody has to give the external sources' GSI its trigger: acpi_gsi_to_irq() only looks.
        Device (LEXT)
        {
            Name (_HID, "GHES0001")
            Name (_UID, 17)
            Name (_CRS, ResourceTemplate ()
            {
                Interrupt (ResourceConsumer, Edge, ActiveHigh, Shared) { 44 }  // virt.EXTERNAL_GSI
            })
        }
    }
}
