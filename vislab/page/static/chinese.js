export const CHINESE = { language: "中文" };
