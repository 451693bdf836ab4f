// Prints a file descriptor as Protocol Buffers source: for schemas that reach us only inside an npm package's code.
import {
  type DescriptorProto,
  type EnumDescriptorProto,
  type FieldDescriptorProto,
  FieldDescriptorProto_Label,
  FieldDescriptorProto_Type,
  type FileDescriptorProto,
} from "@bufbuild/protobuf/wkt";

/**
 * Prints what a file that only imports needs of this one: packages, imports, messages, enums and extensions of proto2,
 * at the top level. Comments, reserved names and options on elements are left out, as no importer reads them.
 */
export function printProto(file: FileDescriptorProto): string {
  const blocks = [
    'syntax = "proto2";',
    `package ${file.package};`,
    file.dependency.map((path) => `import "${path}";`).join("\n"),
    ...file.messageType.map(printMessage),
    ...file.enumType.map(printEnum),
    ...file.extension.map((field) => `extend ${field.extendee} {\n${printField(field)}}`),
  ];
  return `${blocks.join("\n\n")}\n`;
}

function printMessage(message: DescriptorProto): string {
  if (message.nestedType.length > 0 || message.enumType.length > 0 || message.extension.length > 0) {
    throw new Error(`${message.name} has nested declarations, which this printer does not print`);
  }
  const alone = message.field.filter((field) => !hasOneof(field)).map(printField);
  const oneofs = message.oneofDecl.map((oneof, index) => {
    const members = message.field.filter((field) => hasOneof(field) && field.oneofIndex === index);
    return `oneof ${oneof.name} {\n${members.map(printField).join("")}}\n`;
  });
  const ranges = message.extensionRange.map(({ start, end }) => `extensions ${start} to ${end - 1};\n`);
  return `message ${message.name} {\n${[...alone, ...oneofs, ...ranges].join("")}}`;
}

function printEnum(enumeration: EnumDescriptorProto): string {
  const values = enumeration.value.map((value) => `${value.name} = ${value.number};\n`);
  return `enum ${enumeration.name} {\n${values.join("")}}`;
}

function printField(field: FieldDescriptorProto): string {
  const label = hasOneof(field) ? "" : `${FieldDescriptorProto_Label[field.label].toLowerCase()} `;
  const type = field.typeName || FieldDescriptorProto_Type[field.type].toLowerCase();
  return `${label}${type} ${field.name} = ${field.number};\n`;
}

/** An unset oneofIndex reads as 0, the index of the first oneof: only the presence of the field tells them apart. */
function hasOneof(field: FieldDescriptorProto): boolean {
  return Object.hasOwn(field, "oneofIndex");
}
